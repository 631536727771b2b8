"""The table of functions, as the clouds read it."""

from __future__ import annotations

import pytest

from noetl_serverless.hosts.table import functions_folder, load_functions, load_pools
from noetl_serverless.settings import Settings

FUNCTIONS = {spec.name: spec for spec in load_functions(functions_folder(), "aws")}


def test_there_is_a_worker_for_each_pool() -> None:
    pools = {spec.pool for spec in FUNCTIONS.values() if spec.pool}
    assert pools == {"shared", *load_pools(functions_folder()).values()}


def test_the_laptop_has_a_worker_for_each_pool_that_a_step_may_name() -> None:
    assert [spec.pool for spec in load_functions(functions_folder()) if spec.pool] == ["shared", "cpu", "io", "gpu"]


def test_by_default_a_cloud_has_none_of_these() -> None:
    for host in ("aws", "gcp"):
        assert {spec.pool for spec in load_functions(functions_folder(), host)} == {None, "shared", "data"}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_all_that_a_function_is_given_is_a_setting(name: str) -> None:
    spec = FUNCTIONS[name]
    assert {*spec.secrets, *spec.settings} <= set(Settings.__dataclass_fields__)
