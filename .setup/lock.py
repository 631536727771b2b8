"""Write a lock file for every platform and Python of pyproject.toml, with the indexes that pip is configured with.

    python .setup/lock.py requirements.txt --extra local

The lock names no index, no folder of links and no file of constraints: those belong to a machine.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

# by its path: the project is not installed yet
CONFIG = runpy.run_path(str(Path(__file__).parents[1] / "shared/noetl_serverless/packaging/pip_config.py"))
UNNAMED = ("--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-index-annotation")
CONSTRAINED = re.compile(r"^    #   -c .*\n", re.M)
ONE_REASON = re.compile(r"^    # via\n    #   (\S.*\n)(?!    #   )", re.M)


def main(lock: str, *selected: str) -> int:
    subprocess.run([*CONFIG["PIP"], "install", "--quiet", "uv"], check=True)
    options = ("--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", *UNNAMED)
    try:
        done = CONFIG["uv_pip"]("compile", *options, *selected, "--output-file", lock, "pyproject.toml")
    except CONFIG["UnsupportedByUv"] as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        path = Path(lock)
        path.write_text(ONE_REASON.sub(r"    # via \1", CONSTRAINED.sub("", path.read_text())))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
