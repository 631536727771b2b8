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


def main(lock: str) -> None:
    if not with_uv(lock):
        subprocess.run([*PIP, "install", "--quiet", "--require-hashes", "-r", lock], check=True)
        subprocess.run([*PIP, "install", "--quiet", "--no-deps", "--editable", "."], check=True)


def with_uv(lock: str) -> bool:
    """Whether it worked; pip says what is wrong where it did not."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run([*PIP, "install", "--quiet", "uv>=0.5"], **quiet).returncode:
        return False
    into = ("--quiet", "--python", sys.executable)
    steps = (["--require-hashes", "-r", lock], ["--no-deps", "--editable", "."])
    try:
        return all(CONFIG["uv_pip"]("install", *into, *step).returncode == 0 for step in steps)
    except CONFIG["UnsupportedByUv"]:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
