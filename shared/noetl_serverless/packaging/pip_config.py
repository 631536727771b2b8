"""pip's configuration (index, links, certificates) for uv, which does not read it.

Also runs before anything is installed, and so uses the standard library alone.
"""

from __future__ import annotations

import os
import subprocess
import sys

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def pip_config() -> dict[str, str]:
    """pip's configuration, from its files and PIP_* variables, by bare option name."""
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
