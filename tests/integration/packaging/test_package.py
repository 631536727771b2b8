"""Real packages, for the Python that runs the tests, from the locked requirements."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.infra.deployment import Deployment

from noetl_serverless.hosts.table import functions_folder, load_functions
from noetl_serverless.packaging.build import build
from noetl_serverless.packaging.function import MEGABYTE, Packager, TooBig
from noetl_serverless.packaging.target import NoInterpreter, Target, interpreter

PROJECT = functions_folder().parent
TARGET = Target(f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64")  # type: ignore[arg-type]
SPECS = {spec.name: spec for spec in load_functions(functions_folder(), "aws")}
HEAVY = (
    "pyarrow",
    "duckdb",
    "boto3",
    "botocore",
    "google",
    "s3fs",
    "fsspec",
    "uvicorn",
    "functions_framework",
    "httptools",
    "prometheus_client",
    "typer",
    "uvloop",
)
# what a cold start may import of its package: modules, and KiB of their files. It stands for the time, which depends on
# the machine: that is measured by the benchmark cold_start
IMPORTED = {
    "control_plane": (580, 24_300),
    "gateway": (456, 11_600),
    "reconciler": (380, 10_600),
    "worker": (517, 13740),
    "worker_data": (517, 13740),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, and each unpacked beside its zip."""
    folder = build(PROJECT, "aws", TARGET, tmp_path_factory.mktemp("dist"))
    for path in folder.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / path.stem)
    return folder


def run(folder: Path, code: str, **environ: str) -> str:
    """In a Python that has nothing but the package."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_package_has_what_its_function_imports_and_nothing_heavy_beside(packages: Path, name: str) -> None:
    folder = packages / name
    entry = f"noetl_serverless.hosts.aws.entry.{SPECS[name].source}"
    run(folder, f"import {entry}, noetl_serverless.hosts.assembly.{SPECS[name].source}")
    found = {path.name.partition(".")[0] for path in folder.iterdir()} & set(HEAVY)
    assert found == ({"pyarrow", "duckdb"} if name == "worker_data" else set())


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_cold_start_imports_no_more_than_its_bound(packages: Path, name: str) -> None:
    folder = packages / name
    entry, assembly = f"hosts.aws.entry.{SPECS[name].source}", f"hosts.assembly.{SPECS[name].source}"
    code = (
        f"import os, noetl_serverless.{entry}, noetl_serverless.{assembly}; "
        "files = [getattr(module, '__file__', None) or '' for module in sys.modules.values()]; "
        f"sizes = [os.path.getsize(file) for file in files if file.startswith({str(folder)!r})]; "
        "print(len(sizes), sum(sizes) // 1024)"
    )
    modules, kib = map(int, run(folder, code).split())
    max_modules, max_kib = IMPORTED[name]
    assert modules <= max_modules, f"{modules} modules are imported"
    assert kib <= max_kib, f"{kib} KiB are imported"


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_module_of_ours_that_is_in_a_package_can_be_imported_there(packages: Path, name: str) -> None:
    found = (packages / name / "noetl_serverless").rglob("*.pyc")
    modules = {".".join(path.relative_to(packages / name).with_suffix("").parts) for path in found}
    listed = sorted(module.removesuffix(".__init__") for module in modules)
    assert len(listed) > 40
    code = f"""
import importlib
for name in {listed}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # of a pool that has no tables: these modules are never imported there
        if error.name != "pyarrow" or {name == "worker_data"}:
            raise
"""
    run(packages / name, code)


@pytest.mark.parametrize("name", ["control_plane", "reconciler"])
def test_schedules_find_their_time_zones_where_the_system_has_none(packages: Path, name: str) -> None:
    code = (
        "import zoneinfo; zoneinfo.reset_tzpath(()); "
        "from datetime import datetime, UTC; from noetl_serverless.store.schedule_spec import ScheduleSpec, next_due; "
        "at = datetime(2027, 6, 30, tzinfo=UTC); "
        "every = ScheduleSpec(at, interval=60); daily = ScheduleSpec(at, '0 8 * * *', timezone='Europe/Berlin'); "
        "every.check(); daily.check(); print(next_due(every, at).minute, next_due(daily, at).hour)"
    )
    assert run(packages / name, code).split() == ["1", "6"]


@pytest.mark.parametrize("name", ["worker", "worker_data"])
def test_python_tasks_find_time_zones_too(packages: Path, name: str) -> None:
    code = "import zoneinfo; zoneinfo.reset_tzpath(()); print(zoneinfo.ZoneInfo('Asia/Tokyo'))"
    assert run(packages / name, code).strip() == "Asia/Tokyo"


def test_python_tasks_run(packages: Path, tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib; from noetl_serverless.tools.python_pool import PythonPool\n"
        "async def main(forks):\n"
        f"    pool = PythonPool(1, 512, pathlib.Path({str(tmp_path)!r}), forks=forks)\n"
        "    print((await pool.run('result = 6 * n', {'n': 7}, 60.0))['data'])\n"
        "    await pool.close()\n"
        "for forks in (True, False): asyncio.run(main(forks))"
    )
    assert run(packages / "worker", code).split() == ["42", "42"]


def test_every_tool_of_a_workers_package_can_be_used(packages: Path) -> None:
    load = (
        "from noetl_serverless.tools import registry; print([registry.load(kind).config for kind in registry.kinds()])"
    )
    for name in ("control_plane", "worker_data"):
        run(packages / name, load)
    query = "import duckdb, pyarrow; print(duckdb.sql('SELECT 42 AS n').arrow().read_all().to_pylist())"
    assert run(packages / "worker_data", query).strip() == "[{'n': 42}]"


def test_pyarrow_reads_and_writes_without_what_was_cut_off(packages: Path) -> None:
    code = (
        "import io, pyarrow as pa, pyarrow.compute as pc, pyarrow.csv, pyarrow.dataset, pyarrow.fs, pyarrow.ipc; "
        "import pyarrow.json, pyarrow.parquet as pq; "
        "t = pa.table({'n': [1, 2, 3]}); b = io.BytesIO(); pq.write_table(t, b); b.seek(0); "
        # with threads on an object of Python, one exit in fifteen aborts, cut or not: apache/arrow#50482
        "print(pc.sum(pq.read_table(b, use_threads=False)['n']).as_py())"
    )
    assert run(packages / "worker_data", code).strip() == "6"


def test_the_gateway_verifies_signatures_and_the_control_plane_seals(packages: Path) -> None:
    code = (
        "import jwt; from cryptography.hazmat.primitives.asymmetric import rsa; "
        "k = rsa.generate_private_key(65537, 2048); "
        "print(jwt.decode(jwt.encode({'a': 1}, k, 'RS256'), k.public_key(), ['RS256']))"
    )
    assert run(packages / "gateway", code).strip() == "{'a': 1}"
    code = (
        "from noetl_serverless.store.seal import Sealer; import base64; "
        "print(Sealer.of('k:' + base64.b64encode(b'x' * 32).decode()) is not None)"
    )
    assert run(packages / "control_plane", code).strip() == "True"


def test_sizes_are_within_their_limits_and_as_the_manifest_says(packages: Path) -> None:
    manifest = json.loads((packages / "manifest.json").read_text())
    assert (manifest["python"], manifest["architecture"]) == (TARGET.python, TARGET.architecture)
    for name, package in manifest["functions"].items():
        size = sum(path.stat().st_size for path in (packages / name).rglob("*") if path.is_file())
        assert size == package["unzipped_bytes"] <= SPECS[name].package_mb * MEGABYTE
    bounds = {name: SPECS[name].package_mb for name in ("gateway", "control_plane", "reconciler")}
    # the control plane holds calls of tools, and inputs, against JSON Schemas
    assert bounds == {"gateway": 25, "control_plane": 30, "reconciler": 27}


def test_the_same_input_gives_the_same_zip(packages: Path, tmp_path: Path) -> None:
    again = build(PROJECT, "aws", TARGET, tmp_path, only=["control_plane", "gateway"])
    for name in ("control_plane", "gateway"):
        assert (again / f"{name}.zip").read_bytes() == (packages / f"{name}.zip").read_bytes()


def test_a_change_of_code_changes_only_the_functions_that_can_reach_it(packages: Path) -> None:
    def has(name: str, module: str) -> bool:
        return (packages / name / "noetl_serverless" / f"{module}.pyc").is_file()

    assert [name for name in sorted(SPECS) if has(name, "worker/drain/drain")] == ["worker", "worker_data"]
    assert [name for name in sorted(SPECS) if has(name, "gateway/app")] == ["gateway"]
    assert [name for name in sorted(SPECS) if has(name, "control_plane/app")] == ["control_plane"]
    assert [name for name in sorted(SPECS) if has(name, "cli/main")] == []


def test_everything_is_compiled_ahead(packages: Path) -> None:
    left = [path.relative_to(packages).as_posix() for path in packages.glob("*/**/*.py")]
    assert {Path(name).name for name in left} == {"main.py"}


def test_a_package_over_its_limit_is_refused(tmp_path: Path) -> None:
    packager = Packager(PROJECT, "aws", TARGET)
    with pytest.raises(TooBig, match="reconciler takes"):
        packager.build(SPECS["reconciler"].model_copy(update={"package_mb": 1}), tmp_path)


def test_a_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody"):
        build(PROJECT, "aws", TARGET, tmp_path, only=["nobody"])


def test_without_an_interpreter_of_that_version_nothing_is_compiled(tmp_path: Path) -> None:
    with pytest.raises(NoInterpreter, match=r"python3\.99"):
        interpreter("3.99", tmp_path)


def test_a_playbook_runs_through_the_packages(packages: Path, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(folders={name: packages / name for name in SPECS})
    done: dict[str, Any] = deployment.run((PROJECT / "playbooks/loop.yaml").read_text())
    assert done["status"] == "COMPLETED", done
    assert deployment["worker_data"].invocations > 0
