from __future__ import annotations

from collections.abc import Mapping

from ...assembly.gateway import gateway
from ...http.framework import Function
from ..serving import cloud_run_function


def entry_point(environ: Mapping[str, str]) -> Function:
    return cloud_run_function(environ, gateway, public=True)
