"""A command answers at once only if it imports what it needs and no more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "pyarrow",
    "duckdb",
    "boto3",
    "google.cloud.storage",
    "aiohttp",
    "nats",
    "pg8000",
    "starlette",
    "pydantic",
    "jinja2",
}


@pytest.mark.parametrize("module", ["noetl_serverless.cli", "noetl_serverless.cli.main", "noetl_serverless.cli.target"])
def test_the_command_line_imports_no_heavy_package(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout))
