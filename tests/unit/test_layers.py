"""The import graph: who may import whom, and what a function may load before it is asked for anything."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# what takes long to load, and no function needs before it is asked for it
HEAVY = {"pyarrow", "duckdb", "boto3", "botocore", "google.cloud.storage", "pandas", "numpy"}
# a module, or what it does at once, and what it has no use for beside
NEEDLESS = {
    "import noetl_serverless.gateway.app": {"pg8000", "nats", "jinja2"},
    "import noetl_serverless.control_plane.app": {"aiohttp", "graphql"},
    "import noetl_serverless.reconciler.service": {"aiohttp", "graphql"},
    "import noetl_serverless.worker.service, noetl_serverless.hosts.assembly.worker": {"graphql", "pg8000"},
    "import noetl_serverless.engine.decide": {"pg8000", "nats", "aiohttp", "starlette", "fsspec", "uvicorn"},
    **{
        f"import noetl_serverless.{module}": {"aiohttp", "nats", "pg8000", "starlette", "pydantic", "jinja2"}
        for module in ("cli", "cli.main", "cli.target")
    },
    **{
        f"import noetl_serverless.hosts.aws.entry.{name}, noetl_serverless.hosts.assembly.{name}": {
            "fsspec",
            "functions_framework",
            "mangum",
        }
        for name in ("control_plane", "gateway", "reconciler", "worker")
    },
    "from noetl_serverless.tools import registry; [registry.check(kind, {}) for kind in registry.kinds()]": {
        "aiohttp",
        "pg8000",
    },
}
# some are there before anything is imported: a .pth file of a package may make them
LOADED = "import sys; before = set(sys.modules); {}; print('\\n'.join(set(sys.modules) - before))"


def test_the_layers_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_architecture_shows_the_layers_that_are_checked() -> None:
    """In their order; a layer may take more than one line."""
    contract, *_ = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(layer.split(" | ")) for layer in contract["layers"]]
    picture = (ROOT / "shared/ARCHITECTURE.md").read_text().partition("## Layers")[2].split("```")[1]
    shown: list[set[str]] = []
    for line in picture.strip().splitlines():
        names = set(re.match(r"\w+(?: {2,3}\w+)*", line)[0].split())  # type: ignore[index]
        layer = next((layer for layer in layers if names <= layer), None)
        assert layer is not None, f"one line shows {names}, which are in no layer together"
        if shown and layer == layers[len(shown) - 1] and not names & shown[-1]:
            shown[-1] |= names
        else:
            shown.append(names)
    assert shown == layers


@pytest.mark.parametrize(("statement", "needless"), NEEDLESS.items(), ids=NEEDLESS)
def test_what_is_not_needed_at_once_is_not_loaded(statement: str, needless: set[str]) -> None:
    """Cold start is import time."""
    result = subprocess.run(
        [sys.executable, "-c", LOADED.format(statement)], capture_output=True, text=True, check=True
    )
    assert set(result.stdout.split()) & (HEAVY | needless) == set()


def test_only_the_settings_read_the_environment() -> None:
    """Below the hosts and the command line, which pass on what belongs to a machine."""
    package = ROOT / "shared" / "noetl_serverless"
    # python children get a clean environment: what they need of PATH and the like is read where they are started; what
    # installs distributions goes by the user's own configuration, and runs in no function
    children = ("tools/python_source.py", "tools/python_child.py", "tools/python_zygote.py")
    allowed = ("settings.py", "hosts/", "cli/", "packaging/pip_config.py", *children)
    readers = [
        name
        for path in package.rglob("*.py")
        if "os.environ" in path.read_text() or "getenv(" in path.read_text()
        if not (name := path.relative_to(package).as_posix()).startswith(allowed)
    ]
    assert readers == []
