"""Steps that name their pool, and the pools of a deployment."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.pools import Pools
from noetl_serverless.tools.plans import lint, load_plan

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: p, path: p}\nworkflow:\n"
HAS: dict[str, Any] = {
    "shared": {},
    "io": {},
    "data": {"extras": ["tools"]},
    "big_data": {"extras": ["tools", "more"]},
    "calls": {"direct": True},
}
KINDS = {"duckdb": "data", "http": "calls"}


def step(text: str) -> str:
    return f"{HEAD}  - {text}\n"


def faults(text: str, pools: Pools) -> list[tuple[str | None, str | None, int | None, str]]:
    try:
        document_of(step(text), pools=pools)
    except InvalidPlaybook as invalid:
        return [(fault.code, fault.pointer, fault.line, fault.message) for fault in invalid.faults]
    return []


def of(worker_pools: dict[str, Any], *, is_local: bool = False) -> Pools:
    return Pools.of(worker_pools, KINDS, is_local=is_local)


def test_a_step_runs_in_the_pool_that_it_names_and_otherwise_in_that_of_its_kinds() -> None:
    http = "tool: {kind: http, url: 'http://x'}"
    text = f"{HEAD}  - {{step: a, pool: io, {http}}}\n  - {{step: b, {http}}}\n"
    plan = load_plan(text).with_pools(KINDS)
    assert [plan.pool("a"), plan.pool("b"), plan.pool("of another version")] == ["io", "calls", "shared"]


def test_a_pool_that_the_deployment_lacks_is_refused_with_those_that_it_has() -> None:
    [(code, pointer, line, message)] = faults("{step: a, pool: oi, tool: {kind: noop}}", of(HAS))
    assert (code, pointer, line) == ("playbook.unknown_pool", "/workflow/0/pool", 5)
    assert message == "the deployment has no pool 'oi'; it has big_data, calls, data, io, shared"


@pytest.mark.parametrize(("pool", "fits"), [("data", True), ("big_data", True), ("io", False), ("shared", False)])
def test_a_tool_with_a_pool_of_its_own_runs_where_its_libraries_are(pool: str, fits: bool) -> None:
    found = faults(f"{{step: a, pool: {pool}, tool: {{kind: duckdb, query: SELECT 1}}}}", of(HAS))
    expected = f"duckdb needs the pool data: the workers of {pool} do not have its libraries"
    assert found == ([] if fits else [("playbook.wrong_pool", "/workflow/0/pool", 5, expected)])


CODE = "{kind: python, code: 'result = 1'}"


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (f"{{step: a, pool: calls, tool: {CODE}}}", "/workflow/0/pool"),
        # it goes to the pool of its first task that has one
        (f"{{step: a, tool: [{{name: x, kind: http, url: 'http://x'}}, {{name: y, {CODE[1:]}]}}", "/workflow/0/tool"),
    ],
)
def test_on_a_cloud_no_code_of_users_comes_to_workers_with_the_databases_credentials(text: str, pointer: str) -> None:
    [(code, found, _, message)] = faults(text, of(HAS))
    assert (code, found) == ("playbook.wrong_pool", pointer) and "credentials of the database" in message
    assert faults(text, of(HAS, is_local=True)) == [], "on a laptop it has processes of its own"


def test_nothing_is_refused_while_the_pools_are_not_known() -> None:
    assert faults("{step: a, pool: anything, tool: {kind: duckdb, query: SELECT 1}}", of({})) == []


@pytest.mark.parametrize("name", ["IO", "a-b", "1a", "''", "a" * 21])
def test_a_name_of_a_pool_is_one_that_terraform_takes(name: str) -> None:
    [finding] = lint(step(f"{{step: a, pool: {name}, tool: {{kind: noop}}}}"))
    assert (finding.code, finding.pointer) == ("playbook.invalid_value", "/workflow/0/pool")


def test_limits_of_connections_at_the_step_are_still_those_of_the_tool() -> None:
    text = step("{step: a, pool: {max_size: 2}, tool: {kind: postgres, auth: pg, query: SELECT 1}}")
    assert [finding.code for finding in lint(text)] == ["playbook.older_form"]
    assert load_plan(text).steps["a"].pool is None
