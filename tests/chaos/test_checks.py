"""The audit itself: each thing that it looks for is found where it was put."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.log_rules import Finding

from . import checks
from .kinds import CHILDREN, EFFECTS, FAILS, LARGE_RESULTS, STORED, Kind
from .stack import ChaosStack, chaos_stack
from .users import Accepted

pytestmark = pytest.mark.e2e


@pytest.fixture
def stack() -> Iterator[ChaosStack]:
    """One for each test: what one of them spoils, another would find."""
    with chaos_stack() as stack:
        for kind in (CHILDREN, EFFECTS, FAILS, LARGE_RESULTS, STORED):
            for text in kind.texts:
                stack.register(text)
        yield stack


def ran(stack: ChaosStack, kind: Kind, number: int = 5) -> Accepted:
    payload = kind.payload(number) | ({"url": stack.effects.url} if kind.effects else {})
    one = Accepted(stack.execute(kind.path, payload, key=f"chaos {kind.name} {number}"), kind, payload)
    stack.wait([one.execution_id])
    return one


def rules(found: list[Finding]) -> set[str]:
    return {finding.rule for finding in found}


def test_a_sound_run_has_no_findings_and_a_spoilt_one_has_each(stack: ChaosStack) -> None:
    runs = [ran(stack, kind) for kind in (CHILDREN, FAILS, LARGE_RESULTS, EFFECTS, STORED)]
    assert checks.ends(runs, checks.ends_of(stack)) == []
    assert checks.effects(runs, checks.ends_of(stack), stack.effects.seen) == []
    assert checks.kinship(stack) == []
    assert checks.leaks(stack) == []
    assert checks.logs(stack) == []
    assert checks.results(stack)[0] == []

    parent, failed, large, *_ = runs
    # lost, ended otherwise, with another result
    gone = Accepted("1", FAILS, {})
    other = Accepted(large.execution_id, LARGE_RESULTS, {"n": 99})
    stack.query("UPDATE noetl.execution SET status = 'CANCELLED' WHERE execution_id = :id", id=failed.execution_id)
    assert rules(checks.ends([gone, failed, other], checks.ends_of(stack))) == {
        "it was accepted and is not there",
        "it ends otherwise",
        "its result is another",
    }
    assert "its status is not the log's" in rules(checks.logs(stack))
    # a child that was started twice, and one that is not there
    sql = "SELECT min(execution_id) FROM noetl.execution WHERE parent_execution_id = :id"
    ((child,),) = stack.query(sql, id=parent.execution_id)
    stack.query("UPDATE noetl.execution SET execution_id = 2 WHERE execution_id = :id", id=child)
    assert rules(checks.kinship(stack)) == {"a child's execution is missing", "a child that no parent started"}
    # a lease that nobody gives back
    stack.query(
        """INSERT INTO noetl.command
            (execution_id, command_id, step, generation, kind, attempt, pool, status, seq, issued_at)
        VALUES (:id, 'c', 's', 1, 'step', 1, 'none', 'claimed', 1, now())""",
        id=failed.execution_id,
    )
    assert rules(checks.leaks(stack)) == {"a command is still held"}


def test_objects_that_are_gone_changed_or_nobody_s_are_found_and_what_is_left_over_is_collected(
    stack: ChaosStack,
) -> None:
    large, stored = ran(stack, LARGE_RESULTS, 7), ran(stack, STORED, 7)
    folder = stack.layout.results
    gone, changed, *_ = [path for path in (folder / large.execution_id).rglob("*") if path.is_file()]
    gone.unlink()
    changed.write_bytes(b"something else")
    for stray in (f"{large.execution_id}/make/nobody.json", f"{large.execution_id}/make/half.json.tmp", "1/s/o.json"):
        _write(folder / stray)
    lost = asyncio.run(_delete_one_of_each(stack, stored.execution_id))
    assert sorted(lost) == ["kv", "postgres"]
    found, orphans = checks.results(stack)
    assert sorted(finding.rule for finding in found) == [
        *3 * ["a reference without its object"],
        "an object is not what its reference says",
        "an object of no execution",
    ]
    assert (orphans.unregistered, orphans.unfinished) == (2, 1)
    (folder / "1/s/o.json").unlink()
    assert checks.collected(stack) == []


async def _delete_one_of_each(stack: ChaosStack, id: str) -> dict[str, str]:
    """Store and key of an object of the execution, in each store but the folder."""
    deleted = {}
    async with checks.stores_of(stack) as stores:
        for name in ("kv", "postgres"):
            deleted[name] = await anext(stores[name].list(f"{id}/"))
            await stores[name].delete(deleted[name])
    return deleted


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}")
