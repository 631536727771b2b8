"""uv with pip's configuration (indexes, links, certificates, proxy), which uv does not read.

Also runs before anything is installed, and so uses the standard library alone.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UV = [sys.executable, "-m", "uv", "pip"]
# the last overrides those before it, as in pip
SECTIONS = ("global", "install", ":env:")
ALIASES = {"pypi-url": "index-url", "default-timeout": "timeout"}
# uv's other names of a variable: whichever is set, pip's option does not count
FORMER_NAMES = {
    "UV_DEFAULT_INDEX": ("UV_INDEX_URL",),
    "UV_INDEX": ("UV_EXTRA_INDEX_URL",),
    "UV_HTTP_TIMEOUT": ("UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"),
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class UnsupportedByUv(RuntimeError):
    """The message names the option of pip's configuration."""


def uv_pip(action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`uv pip ACTION`, as pip is configured. Raises UnsupportedByUv; whether uv succeeds, the result says."""
    config = pip_config()
    if "--require-hashes" in arguments:
        # every version is fixed then, and uv refuses a constraint that is not
        config.pop("constraint", None)
    command = [*UV, action, *uv_arguments(config, arguments), *arguments]
    return subprocess.run(command, env=uv_environment(config), capture_output=True, text=True, check=False)


def pip_config() -> dict[str, str]:
    """pip's configuration for `pip install`, from its files and PIP_* variables, by bare option name."""
    if importlib.util.find_spec("pip") is None:
        return {}
    # quiet, pip would not print it; verbose, more than that
    environment = {**os.environ, "PIP_QUIET": "0", "PIP_VERBOSE": "0"}
    command = [*PIP, "config", "list"]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if listed.returncode:
        reason = f"{listed.stdout}{listed.stderr}".strip()
        raise UnsupportedByUv(f"pip cannot read its own configuration: {reason}")
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        # pip ignores what is empty
        if section in found and (text := ast.literal_eval(value)):
            found[section][ALIASES.get(option, option)] = text
    return {option: value for section in SECTIONS for option, value in found[section].items()}


def uv_arguments(config: dict[str, str], given: tuple[str, ...] = ()) -> list[str]:
    """What uv takes from no variable. As in pip, kinds of files that are `given` replace those of the configuration."""
    arguments = ["--no-index"] if _is_true(config, "no-index") else []
    if not {"--only-binary", "--no-binary"} & set(given):
        for option in ("only-binary", "no-binary"):
            names = config.get(option, "").replace(",", " ").split()
            arguments += [f"--{option}={name}" for name in names]
    return arguments


def uv_environment(config: dict[str, str]) -> dict[str, str]:
    """Variables of uv's own that are set already are kept; of the common ones pip's options overrule, as in pip."""
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    config = {"timeout": "180", **config}
    if config.get("keyring-provider") == "auto":
        # pip's default
        del config["keyring-provider"]
    for option, (variable, form) in VARIABLES.items():
        names = (variable, *FORMER_NAMES.get(variable, ()))
        if option in config and not (variable.startswith("UV_") and any(name in environment for name in names)):
            environment[variable] = form(option, config[option])
    if proxy := config.get("proxy"):
        for name in (*PROXIES, "NO_PROXY"):
            environment.pop(name, None)
            environment.pop(name.lower(), None)
        environment |= dict.fromkeys(PROXIES, proxy)
    return environment


def _text(option: str, value: str) -> str:
    return value


def _path(option: str, value: str) -> str:
    return os.path.expanduser(value)


def _words(option: str, value: str) -> str:
    return " ".join(value.split())


def _links(option: str, value: str) -> str:
    if "," in value:
        raise UnsupportedByUv(f"pip's option {option} contains a comma, at which uv separates links")
    return ",".join(os.path.expanduser(link) for link in value.split())


def _integer(option: str, value: str) -> str:
    try:
        return str(math.ceil(float(value)))
    except (ValueError, OverflowError):
        raise UnsupportedByUv(f"pip's option {option} is not a number: {value!r}") from None


def _keyring(option: str, value: str) -> str:
    if value not in ("disabled", "subprocess"):
        raise UnsupportedByUv(f"pip's option {option} is {value!r}; uv supports only 'subprocess' and 'disabled'")
    return value


def _is_true(config: dict[str, str], option: str) -> bool:
    return config.get(option, "").lower() in ("1", "on", "t", "true", "y", "yes")


VARIABLES: dict[str, tuple[str, Callable[[str, str], str]]] = {
    "index-url": ("UV_DEFAULT_INDEX", _text),
    "extra-index-url": ("UV_INDEX", _words),
    "find-links": ("UV_FIND_LINKS", _links),
    "trusted-host": ("UV_INSECURE_HOST", _words),
    "constraint": ("UV_CONSTRAINT", _words),
    "build-constraint": ("UV_BUILD_CONSTRAINT", _words),
    "keyring-provider": ("UV_KEYRING_PROVIDER", _keyring),
    "timeout": ("UV_HTTP_TIMEOUT", _integer),
    "retries": ("UV_HTTP_RETRIES", _integer),
    "cert": ("SSL_CERT_FILE", _path),
    "client-cert": ("SSL_CLIENT_CERT", _path),
}
