"""functions/*/aws.py, and the table as Terraform reads it."""

from __future__ import annotations

import ast

import pytest

from noetl_serverless.hosts.table import functions_folder, load_functions, load_pools
from noetl_serverless.settings import Settings

FUNCTIONS = {spec.name: spec for spec in load_functions(functions_folder(), "aws")}


def test_there_is_a_worker_for_each_pool() -> None:
    pools = {spec.pool for spec in FUNCTIONS.values() if spec.pool}
    assert pools == {"shared", *load_pools(functions_folder()).values()}


def test_the_laptop_has_one_worker() -> None:
    assert [spec.pool for spec in load_functions(functions_folder()) if spec.pool] == ["shared"]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_each_module_is_thin_and_has_a_handler(name: str) -> None:
    text = (functions_folder() / FUNCTIONS[name].source / "aws.py").read_text()
    assert len(text.splitlines()) < 41
    names = {
        target.id
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert names == {"handler"}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_all_that_a_function_is_given_is_a_setting(name: str) -> None:
    spec = FUNCTIONS[name]
    assert {*spec.secrets, *spec.settings} <= set(Settings.__dataclass_fields__)
