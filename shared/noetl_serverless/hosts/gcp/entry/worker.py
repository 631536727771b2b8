from __future__ import annotations

from collections.abc import Mapping

from ...http.framework import Function
from ...http.worker import service
from ..results import gcs_results
from ..serving import cloud_run_function


def entry_point(environ: Mapping[str, str]) -> Function:
    return cloud_run_function(environ, service, gcs_results)
