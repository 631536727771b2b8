"""Cold start is import time: what the control plane has no use for stays away."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("pyarrow", "duckdb", "boto3", "google.cloud", "aiohttp", "pandas", "graphql")


def test_importing_the_control_plane_loads_nothing_heavy() -> None:
    # some are there before anything is imported: a .pth file of a package may make them
    code = (
        "import sys; before = set(sys.modules); import noetl_serverless.control_plane.app; "
        f"print([name for name in {HEAVY!r} if name in sys.modules.keys() - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
