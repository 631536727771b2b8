"""checkov and trivy on infra/ and the worker's image: `make infra-check`. Exceptions are justified where they stand."""

from __future__ import annotations

import subprocess
import sys

from localstack import toolbox

INFRA = toolbox.ROOT / "infra"
IMAGE = toolbox.ROOT / "functions" / "worker" / "Dockerfile"
NAMES = ("checkov", "checkov of the image", "trivy", "trivy of the image")


def commands() -> dict[str, list[str]]:
    tools = toolbox.tool("check")
    checkov = [f"{tools}/bin/python", "-m", "checkov.main", "--quiet", "--compact", "--skip-download"]
    trivy = [
        *(f"{tools}/bin/trivy", "config", "--skip-check-update", "--exit-code", "1", "--quiet"),
        *("--severity", "MEDIUM,HIGH,CRITICAL"),
    ]
    return {
        "checkov": [
            *(*checkov, "--directory", str(INFRA), "--framework", "terraform", "--download-external-modules", "false"),
            # how modules are named is no matter here: they are in this repository
            *("--skip-check", "CKV_TF_1,CKV_TF_2"),
        ],
        "checkov of the image": [*checkov, "--file", str(IMAGE), "--framework", "dockerfile"],
        "trivy": [*trivy, "--skip-dirs", "**/tests", str(INFRA)],
        "trivy of the image": [*trivy, str(IMAGE.parent)],
    }


def main() -> int:
    failed = [name for name, command in commands().items() if subprocess.run(command, check=False).returncode]
    print(f"not clean: {', '.join(failed)}" if failed else "clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
