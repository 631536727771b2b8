"""The form of the packages of each host."""

from __future__ import annotations

from importlib import import_module
from typing import Literal, get_args

from ..hosts.entry import host_names

# compiled, with the distributions in it; or our source, and a requirements.txt that the cloud installs
Form = Literal["compiled", "source"]
# what each takes: Lambda, https://docs.aws.amazon.com/lambda/latest/dg/python-package.html; Cloud Run's builds,
# https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.builds/submit
SUFFIXES = {"compiled": ".zip", "source": ".tar.gz"}


class NoPackages(ValueError):
    """The host runs the functions without packages."""


def package_form(host: str) -> Form:
    """What PACKAGE_FORM says in the host's folder. Raises NoPackages."""
    form = _form(host)
    if form not in get_args(Form):
        raise NoPackages(f"there are no packages for the host {host}: its PACKAGE_FORM is {form!r}")
    return form  # type: ignore[return-value]


def packaged_hosts() -> list[str]:
    return [host for host in host_names() if _form(host) is not None]


def _form(host: str) -> object:
    return getattr(import_module(f"noetl_serverless.hosts.{host}"), "PACKAGE_FORM", None)
