from __future__ import annotations

from collections.abc import Mapping

from ...assembly.control_plane import control_plane
from ...http.framework import Function, serve
from ..platform import local_platform


def entry_point(environ: Mapping[str, str]) -> Function:
    return serve(control_plane(local_platform(environ)))
