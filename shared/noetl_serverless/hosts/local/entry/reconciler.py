from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ....reconciler.sources import FolderSource
from ...http.framework import Function, serve
from ...http.reconciler import service
from ..platform import local_platform


def entry_point(environ: Mapping[str, str]) -> Function:
    platform = local_platform(environ)
    private = [Path(folder) for folder in platform.settings.private_folders.split(os.pathsep) if folder]
    return serve(service(platform, sources={"file": FolderSource(private)}))
