from __future__ import annotations

from collections.abc import Mapping

from ...assembly.control_plane import control_plane
from ...http.framework import Function
from ..results import gcs_results
from ..serving import cloud_run_function


def entry_point(environ: Mapping[str, str]) -> Function:
    return cloud_run_function(environ, control_plane, gcs_results)
