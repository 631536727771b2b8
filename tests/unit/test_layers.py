"""The import graph: who may import whom, and what a function may load before it is asked for anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("pyarrow", "duckdb", "boto3", "botocore", "google.cloud.storage", "pandas", "numpy")
LOADED = "import sys; before = set(sys.modules); import {}; print('\\n'.join(set(sys.modules) - before))"


def test_the_layers_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    told = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    "module", ["gateway.app", "control_plane.app", "reconciler.service", "worker.service", "engine.decide", "cli.main"]
)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    program = LOADED.format(f"noetl_serverless.{module}")
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.split())
    assert not loaded & set(HEAVY)


def test_the_core_loads_no_driver_and_no_server() -> None:
    program = LOADED.format("noetl_serverless.engine.decide")
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(told.stdout.split()) & {"pg8000", "nats", "aiohttp", "starlette", "fsspec", "uvicorn"}


def test_only_the_settings_read_the_environment() -> None:
    """Below the hosts and the command line, which pass on what belongs to a machine."""
    package = ROOT / "shared" / "noetl_serverless"
    # python children get a clean environment: what they need of PATH and the like is read where they are started
    allowed = ("settings.py", "hosts/", "cli/", "tools/python_process.py", "tools/python_child.py")
    readers = [
        name
        for path in package.rglob("*.py")
        if "os.environ" in path.read_text() or "getenv(" in path.read_text()
        if not (name := path.relative_to(package).as_posix()).startswith(allowed)
    ]
    assert readers == []
