"""The adapters of the host that a function runs on."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..settings import Settings
from .platform import Platform


class UnknownHost(ValueError):
    """NOETL_HOST names a host that there is no adapter for."""


def platform_of(environ: Mapping[str, str] = os.environ) -> Platform:
    """Raises UnknownHost, and ValueError naming the variable that is wrong."""
    settings = Settings.from_environment(environ)
    match settings.host:
        case "local":
            from .local.platform import local_platform

            return local_platform(settings)
        case "aws":
            from .aws.platform import aws_platform

            return aws_platform(environ)
        case _:
            raise UnknownHost(f"NOETL_HOST={settings.host!r}: expected 'local' or 'aws'")
