"""checkov and trivy on infra/: `make infra-check`. What they may not find is justified where it stands."""

from __future__ import annotations

import subprocess
import sys

from tests.infra import toolbox

INFRA = toolbox.ROOT / "infra"


def commands() -> dict[str, list[str]]:
    tools = toolbox.tool("check")
    return {
        "checkov": [
            *(f"{tools}/bin/python", "-m", "checkov.main", "--directory", str(INFRA), "--framework", "terraform"),
            *("--quiet", "--compact", "--skip-download", "--download-external-modules", "false"),
            # how modules are named is no matter here: they are in this repository
            *("--skip-check", "CKV_TF_1,CKV_TF_2"),
        ],
        "trivy": [
            *(f"{tools}/bin/trivy", "config", "--skip-check-update", "--exit-code", "1", "--quiet"),
            *("--severity", "MEDIUM,HIGH,CRITICAL", "--skip-dirs", "**/tests", str(INFRA)),
        ],
    }


def main() -> int:
    failed = [name for name, command in commands().items() if subprocess.run(command, check=False).returncode]
    print(f"not clean: {', '.join(failed)}" if failed else "clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
