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
