from __future__ import annotations

from collections.abc import Mapping

from ...http.framework import Function, serve
from ...http.reconciler import service
from ..platform import local_platform


def entry_point(environ: Mapping[str, str]) -> Function:
    return serve(service(local_platform(environ)))
