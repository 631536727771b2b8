from __future__ import annotations

from collections.abc import Mapping

from ...assembly.gateway import gateway
from ...http.framework import Function, serve
from ..platform import local_platform


def entry_point(environ: Mapping[str, str]) -> Function:
    return serve(gateway(local_platform(environ)))
