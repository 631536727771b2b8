"""The gateway behind an HTTP API."""

from __future__ import annotations

from collections.abc import Mapping

from ...assembly.gateway import gateway
from ..http import Handler, http_handler
from ..platform import aws_platform
from ..session import lambda_session


def entry_point(environ: Mapping[str, str]) -> Handler:
    platform = aws_platform(environ, lambda_session)
    return http_handler(gateway(platform).app, platform.host)
