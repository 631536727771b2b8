"""Install a lock file and this project into the environment whose Python runs this.

    python .setup/install.py requirements.txt

With uv, which takes a tenth of pip's time, where it can be had and works; else with pip. pip's own configuration
(index, links, certificates) counts for both.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

# by its path: the project is not installed yet
CONFIG = runpy.run_path(str(Path(__file__).parents[1] / "shared/noetl_serverless/packaging/pip_config.py"))
PIP = CONFIG["PIP"]
UV = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]


def main(lock: str) -> None:
    if not with_uv(lock):
        subprocess.run([*PIP, "install", "--quiet", "--require-hashes", "-r", lock], check=True)
        subprocess.run([*PIP, "install", "--quiet", "--no-deps", "--editable", "."], check=True)


def with_uv(lock: str) -> bool:
    """Whether it worked; pip says what is wrong where it did not."""
    config = CONFIG["pip_config"]()
    if config.get("no-index") in ("1", "true"):
        return False
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run([*PIP, "install", "--quiet", "uv>=0.5"], **quiet).returncode:
        return False
    environment = CONFIG["uv_environment"](config)
    steps = (["--require-hashes", "-r", lock], ["--no-deps", "--editable", "."])
    return all(subprocess.run([*UV, *step], env=environment, **quiet).returncode == 0 for step in steps)


if __name__ == "__main__":
    main(sys.argv[1])
