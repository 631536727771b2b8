from __future__ import annotations

import ast
from pathlib import Path

import pytest

from noetl_serverless.hosts.table import FunctionSpec, functions_folder, load_functions
from noetl_serverless.settings import Settings

FUNCTIONS = {spec.name: spec for spec in load_functions(functions_folder())}


def main_of(spec: FunctionSpec) -> Path:
    return functions_folder() / spec.source / "main.py"


def test_there_are_four_functions_and_workers_of_further_pools() -> None:
    assert {name for name, spec in FUNCTIONS.items() if spec.pool in (None, "shared")} == {
        "gateway",
        "control_plane",
        "reconciler",
        "worker",
    }


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_each_main_is_thin_and_exports_its_entry_point(name: str) -> None:
    text = main_of(FUNCTIONS[name]).read_text()
    assert len(text.splitlines()) < 41
    assigned = {
        target.id
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert FUNCTIONS[name].entry_point in assigned


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_all_that_a_function_is_given_is_a_setting(name: str) -> None:
    spec = FUNCTIONS[name]
    assert {*spec.secrets, *spec.settings} <= set(Settings.__dataclass_fields__)


def test_only_who_must_gets_the_database_and_the_keys() -> None:
    holders = {
        secret: {name for name, spec in FUNCTIONS.items() if secret in spec.secrets}
        for secret in ("database_url", "token_key", "encryption_keys")
    }
    assert holders == {
        "database_url": {"control_plane", "reconciler"},
        "token_key": {"control_plane"},
        "encryption_keys": {"control_plane"},
    }


def test_a_mistake_in_the_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "functions.yaml").write_text("functions: {a: {source: a, memory: 1}}")
    with pytest.raises(ValueError, match="memory_mb"):
        load_functions(tmp_path)


ROW = "source: a, entry_point: f, role: worker, memory_mb: 2048, timeout_s: 9, concurrency: 1, triggers: []"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("pool: gpu, accelerator: nvidia-l4", "AWS Lambda has no GPUs: let the pool gpu run on Google Cloud"),
        ("pool: cpu, cpu: 2", "AWS Lambda gives one CPU for each 1769 MB: 2 CPUs need a memory_mb of 3538"),
    ],
)
def test_what_lambda_does_not_have_is_refused_there_and_nowhere_else(tmp_path: Path, more: str, reason: str) -> None:
    (tmp_path / "functions.yaml").write_text(f"functions: {{worker_x: {{{ROW}, {more}}}}}")
    with pytest.raises(ValueError, match=f"functions.worker_x: {reason}"):
        load_functions(tmp_path, "aws")
    for host in ("local", "gcp"):
        assert [spec.name for spec in load_functions(tmp_path, host)] == ["worker_x"]


def test_only_workers_are_described_as_a_pool(tmp_path: Path) -> None:
    (tmp_path / "functions.yaml").write_text(f"functions: {{gateway: {{{ROW}, max_in_flight: 3}}}}")
    with pytest.raises(ValueError, match="are for workers, which have a pool"):
        load_functions(tmp_path)
