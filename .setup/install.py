"""Install a lock file and this project into the environment whose Python runs this.

    python .setup/install.py requirements.txt

With uv, which takes a tenth of pip's time, where it can be had and works; else with pip. pip's own configuration
(index, links, certificates) counts for both.
"""

from __future__ import annotations

import os
import subprocess
import sys

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UV = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]


def main(lock: str) -> None:
    if not with_uv(lock):
        subprocess.run([*PIP, "install", "--quiet", "--require-hashes", "-r", lock], check=True)
        subprocess.run([*PIP, "install", "--quiet", "--no-deps", "--editable", "."], check=True)


def with_uv(lock: str) -> bool:
    """Whether it worked; pip says what is wrong where it did not."""
    config = pip_config()
    if config.get("no-index") in ("1", "true"):
        return False
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run([*PIP, "install", "--quiet", "uv>=0.5"], **quiet).returncode:
        return False
    environment = uv_environment(config)
    steps = (["--require-hashes", "-r", lock], ["--no-deps", "--editable", "."])
    return all(subprocess.run([*UV, *step], env=environment, **quiet).returncode == 0 for step in steps)


def pip_config() -> dict[str, str]:
    """What pip goes by, from its files and PIP_* variables, by bare option name."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True).stdout
    config = {}
    for line in listed.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.partition(".")[0] in ("global", "install", ":env:"):
            config[key.partition(".")[2]] = value.strip().strip("'\"")
    return config


def uv_environment(config: dict[str, str]) -> dict[str, str]:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_TIMEOUT": "180"}
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
    }
    for option, variable in names.items():
        if option in config and variable not in environment:
            separator = "," if variable == "UV_FIND_LINKS" else " "
            environment[variable] = separator.join(config[option].split())
    return environment


if __name__ == "__main__":
    main(sys.argv[1])
