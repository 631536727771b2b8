"""How an execution begins: what stands in its first fact and in its row, and what it is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.errors import Conflict, InvalidRequest, NotFound, Unavailable
from noetl_serverless.limits import INLINE_BYTES, WORKLOAD_BYTES
from noetl_serverless.orchestrator.start import initial_values, new_child, new_root, repeated_start
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.records import IdempotentStart
from noetl_serverless.testing.catalog import MemoryCatalogEntry

from .conftest import Catalog, Engine

ONLY = "- {step: only, tool: {kind: noop}}\n"
AT = 1_800_000_000_000


def opened(head: str = "") -> tuple[MemoryCatalogEntry, Plan]:
    catalog = Catalog()
    catalog.add("t/t", ONLY, head)
    entry = catalog.found["t/t"]
    return entry, load_plan(entry.content)


def test_the_first_fact_and_the_row_say_what_was_started() -> None:
    entry, plan = opened("workload: {x: 1, y: {z: 1, w: 1}}\n")
    alice = {"kind": "user", "name": "alice"}
    opening = new_root(entry, plan, {"y": {"z": 2}, "ctx": {"seen": True}}, AT, None, alice)
    workload = {"x": 1, "y": {"z": 2, "w": 1}}
    assert (opening.fact.type, opening.fact.at) == (e.STARTED, AT)
    assert opening.fact.payload == {
        "path": "t/t",
        "version": 1,
        "plan": plan.hash,
        "entry": "only",
        "depth": 0,
        "workload": workload,
        "ctx": {"seen": True},
        "principal": alice,
    }
    assert opening.row == {
        "catalog_id": "1",
        "path": "t/t",
        "version": 1,
        "plan_hash": plan.hash,
        "parent_execution_id": None,
        "parent": None,
        "depth": 0,
        "workload": workload,
        "principal": alice,
        "at": AT,
        "idempotency_key": None,
        "request_hash": None,
    }
    case = opening.execution
    assert (case.catalog_id, case.path, case.version, case.plan_hash) == ("1", "t/t", 1, plan.hash)
    assert (case.head, case.snapshot, case.depth, case.parent, case.principal) == (0, 0, 0, None, alice)
    assert case.state.workload == workload


def test_without_a_word_on_them_there_is_no_ctx_no_budget_and_nobody() -> None:
    entry, plan = opened()
    payload = new_root(entry, plan, {}, AT, None).fact.payload
    assert payload.keys() == {"path", "version", "plan", "entry", "depth", "workload"}
    entry, plan = opened("executor: {spec: {budget: {max_invocations: 3}}}\n")
    assert new_root(entry, plan, {}, AT, None).fact.payload["budget"]["max_invocations"] == 3


def test_each_start_has_an_id_of_its_own_that_sorts_by_time() -> None:
    entry, plan = opened()
    first, second = (new_root(entry, plan, {}, AT, None).execution.execution_id for _ in range(2))
    later = new_root(entry, plan, {}, AT + 1000, None).execution.execution_id
    assert first != second
    assert int(later) > max(int(first), int(second))


def text_for(size: int) -> str:
    """With which {"x": ...} has so many bytes of JSON."""
    return "y" * (size - len(orjson.dumps({"x": ""})))


def test_a_workload_of_the_inline_limit_stands_in_the_log_and_a_larger_one_with_its_size() -> None:
    entry, plan = opened()
    payload = new_root(entry, plan, {"x": text_for(INLINE_BYTES)}, AT, None).fact.payload
    assert "workload" in payload and "workload_bytes" not in payload
    opening = new_root(entry, plan, {"x": text_for(INLINE_BYTES + 1)}, AT, None)
    assert opening.fact.payload["workload_bytes"] == INLINE_BYTES + 1
    assert "workload" not in opening.fact.payload
    assert opening.row["workload"] == opening.execution.state.workload


def test_what_is_larger_than_its_limit_is_refused() -> None:
    _, plan = opened()
    assert initial_values(plan, {"x": text_for(WORKLOAD_BYTES)})[2] == WORKLOAD_BYTES
    with pytest.raises(InvalidRequest, match=f"has {WORKLOAD_BYTES + 1} bytes"):
        initial_values(plan, {"x": text_for(WORKLOAD_BYTES + 1)})
    assert initial_values(plan, {"ctx": {"x": text_for(INLINE_BYTES)}})[0] == {}
    with pytest.raises(InvalidRequest, match=f"payload.ctx has {INLINE_BYTES + 1} bytes"):
        initial_values(plan, {"ctx": {"x": text_for(INLINE_BYTES + 1)}})


def test_what_is_given_is_left_as_it_was() -> None:
    _, plan = opened("workload: {x: {y: 1}}\n")
    given = {"x": {"z": 2}, "ctx": {"n": 1}}
    assert initial_values(plan, given)[:2] == ({"x": {"y": 1, "z": 2}}, {"n": 1})
    assert given == {"x": {"z": 2}, "ctx": {"n": 1}}
    assert plan.workload == {"x": {"y": 1}}


def test_a_payload_that_cannot_be_stored_is_refused_with_its_place() -> None:
    entry, plan = opened()
    with pytest.raises(InvalidRequest, match=r"cannot be stored: a\[1\]") as caught:
        new_root(entry, plan, {"a": [1, 2**64]}, AT, None)
    (fault,) = caught.value.faults
    assert (fault.pointer, fault.code) == ("/payload/a/1", "value.invalid")


@pytest.mark.parametrize(
    ("given", "own", "timeout"),
    [(None, None, None), (5.0, None, 5.0), (None, 7.0, 7.0), (5.0, 7.0, 5.0), (9.0, 7.0, 7.0)],
)
def test_a_child_has_the_shorter_of_two_times(given: float | None, own: float | None, timeout: float | None) -> None:
    entry, plan = opened(f"executor: {{spec: {{timeout: {own:g}}}}}\n" if own else "")
    parent = new_root(entry, plan, {}, AT, None).execution
    order = {"execution_id": "77", "catalog_id": "9", "version": 4, "path": "t/child", "depth": 1, "resumes": True}
    started = Event(e.CHILD_STARTED, AT, seq=7, payload={**order, **({"timeout": given} if given else {})})
    assert new_child(parent, started, plan, {}).fact.payload.get("timeout") == timeout


def test_a_child_says_who_started_it_and_keeps_the_principal() -> None:
    entry, plan = opened("workload: {x: 1}\n")
    parent = new_root(entry, plan, {}, AT, None, {"kind": "user", "name": "alice"}).execution
    order = {
        "execution_id": "77",
        "catalog_id": "9",
        "version": 4,
        "path": "t/child",
        "depth": 3,
        "resumes": True,
        "return_step": "only",
    }
    opening = new_child(
        parent,
        Event(e.CHILD_STARTED, AT + 5, seq=7, cause=6, step="call", generation=2, command_id="call#2", payload=order),
        plan,
        {"x": 2},
    )
    link = {
        "execution_id": parent.execution_id,
        "command_id": "call#2",
        "step": "call",
        "generation": 2,
        "resumes": True,
        "return_step": "only",
    }
    assert opening.row == {
        "catalog_id": "9",
        "path": "t/child",
        "version": 4,
        "plan_hash": plan.hash,
        "parent_execution_id": parent.execution_id,
        "parent": link,
        "depth": 3,
        "workload": {"x": 2},
        "principal": parent.principal,
        "at": AT + 5,
    }
    payload = opening.fact.payload
    assert (payload["parent"], payload["depth"], payload["principal"]) == (link, 3, parent.principal)
    assert (opening.execution.execution_id, opening.execution.parent, opening.execution.depth) == ("77", link, 3)
    bare = {name: value for name, value in order.items() if name not in ("payload", "return_step")}
    opening = new_child(
        parent,
        Event(e.CHILD_STARTED, AT, seq=7, cause=6, step="call", generation=2, command_id="call#2", payload=bare),
        plan,
        {},
    )
    assert (opening.row["workload"], opening.row["parent"]["return_step"]) == ({"x": 1}, None)


@pytest.mark.parametrize(
    ("path", "version", "payload", "same"),
    [
        ("t/t", None, {"x": 1, "y": 2}, True),
        ("t/t", 1, {"y": 2, "x": 1}, True),
        ("t/t", 2, {"x": 1, "y": 2}, False),
        ("t/other", None, {"x": 1, "y": 2}, False),
        ("t/t", None, {"x": 1, "y": 3}, False),
    ],
)
def test_a_key_is_for_one_request(path: str, version: int | None, payload: dict[str, Any], same: bool) -> None:
    entry, plan = opened()
    opening = new_root(entry, plan, {"x": 1, "y": 2}, AT, "k")
    assert opening.row["idempotency_key"] == "k"
    known = IdempotentStart("5", 1, opening.row["request_hash"], None)
    if same:
        started = repeated_start(known, path, version, payload)
        assert (started.execution_id, started.commands, started.replayed) == ("5", 0, True)
    else:
        with pytest.raises(Conflict, match="execution 5"):
            repeated_start(known, path, version, payload)


async def test_a_start_says_how_many_commands_are_out(engine: Engine) -> None:
    engine.catalog.add("t/t", '- {step: each, loop: {in: "{{ [1, 2, 3] }}", iterator: x}, tool: {kind: noop}}\n')
    started = await engine.orchestrator.start(path="t/t")
    assert (started.commands, started.replayed) == (1, False)


async def test_a_playbook_may_be_named_by_its_place_in_the_catalog(engine: Engine) -> None:
    engine.catalog.add("t/other", ONLY)
    engine.catalog.add("t/t", ONLY)
    by_id = await engine.orchestrator.start(catalog_id="2", idempotency_key="k")
    assert (await engine.log.load([by_id.execution_id]))[by_id.execution_id].path == "t/t"
    again = await engine.orchestrator.start(path="t/t", version=1, idempotency_key="k")
    assert (again.execution_id, again.replayed) == (by_id.execution_id, True)
    with pytest.raises(NotFound):
        await engine.orchestrator.start(path="t/t", version=2)


async def test_a_start_whose_id_is_taken_tries_another_three_times_in_all(engine: Engine, monkeypatch: Any) -> None:
    engine.catalog.add("t/t", ONLY)
    ids: list[str] = []

    def id_of(at: int, seed: str) -> str:
        ids.append(seed)
        return "7" if len(ids) != 4 else "8"

    monkeypatch.setattr("noetl_serverless.orchestrator.start.execution_id", id_of)
    assert (await engine.orchestrator.start(path="t/t")).execution_id == "7"
    ids[:] = ["", ""]
    assert (await engine.orchestrator.start(path="t/t")).execution_id == "8"
    ids[:] = ["", "", "", ""]
    with pytest.raises(Unavailable):
        await engine.orchestrator.start(path="t/t")
    assert len(ids) == 7
