"""What ctx holds by reference, which the release before knows nothing of: it loses no step on it, and gives nobody a
wrong value."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.constructs import document, python, step

from noetl_serverless.hosts.local.ports import free_port

from .bed import Bed, Function, Ticks, bed, stop
from .kind import both, effect, gate
from .release import HERE, Release, new_release, old_release
from .store import await_, heads, running

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIZE = 100_000
MADE = f"result = {{'text': 'x' * {SIZE}, 'n': 3}}"
# a worker that waits for a gate asks again and again by itself
OFTEN = 0.3


def sets(code: str) -> dict[str, Any]:
    """Its rules set what it gives, in part too large for an event."""
    then = {"do": "continue", "set": {"ctx.own": "{{ output.data.text }}", "ctx.n": "{{ output.data.n }}"}}
    return {"kind": "python", "code": code, "spec": {"policy": {"rules": [{"else": {"then": then}}]}}}


READ = python("result = {'v': len(own) + len(big)}", own="{{ ctx.own }}", big="{{ ctx.big.text }}")
PASS_ON = {"ctx.big": "{{ make }}"}


def book(name: str, *steps: Any) -> str:
    return document("upgrade", name, list(steps), {"n": 0, "at": ""}, {})


# it waits twice, and does something between that does not read it
LATER = book(
    "later",
    step("make", sets(MADE), "first", set=PASS_ON),
    step("first", gate(OFTEN, "first"), "act"),
    step("act", effect("act"), "far"),
    step("far", python("result = {'n': n}", n="{{ ctx.n }}"), "second"),
    step("second", gate(OFTEN, "second"), "say"),
    step("say", READ),
)
EARLY = book(
    "early",
    step("make", sets(MADE), "first", set=PASS_ON),
    step("first", gate(OFTEN, "first"), "say"),
    step("say", READ),
)
# the step that reads it has begun, and waits
HELD = book(
    "held",
    step("make", sets(MADE), "say"),
    step("say", both(gate(OFTEN, "third"), python("result = {'v': len(own)}", own="{{ ctx.own }}"))),
)
PASSED = book(
    "passed",
    step("make", python(MADE), "say", set=PASS_ON),
    step("say", python("result = {'v': len(big['text'])}", big="{{ ctx.big }}")),
)
SET = book("sets", step("make", sets(MADE), "say"), step("say", python("result = {'v': len(own)}", own="{{ own }}")))


@pytest.fixture(scope="module")
def made() -> Iterator[Bed]:
    with bed() as made:
        yield made


@pytest.fixture(scope="module")
def releases(made: Bed) -> tuple[Release, Release]:
    """The one before, and this one; their store is migrated."""
    old, new = old_release(made.home), new_release(made.home)
    old.run(HERE / "by_release" / "make_secrets.py", str(made.secrets_file))
    for release in (old, new):
        release.migrate(made.database_url)
    return old, new


@contextlib.contextmanager
def functions(made: Bed, plane: Release, worker: Release, *, cut: bool = False) -> Iterator[str]:
    """One of each, the reconciler of the control plane's release; gives the control plane's address. `cut`: the worker
    is killed in the end, with what it holds."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    started: list[Function] = made.control_planes(plane, worker_url=url)
    try:
        started += made.workers((worker, started[0].url, port))
        started += made.reconcilers((plane, started[0].url, url))
        with Ticks(made, started):
            yield started[0].url
        if cut:
            started.pop(1).process.kill()
    finally:
        stop(started)


def start(made: Bed, url: str, name: str, n: int) -> str:
    body = {"path": f"upgrade/{name}", "payload": {"n": n, "at": made.effects.url}}
    return str(made.call(url, "POST", "/api/execute", body)["execution_id"])


def at(made: Bed, execution_id: str, step: str) -> None:
    sql = "SELECT count(*) FROM noetl.event WHERE execution_id = :id AND type = 'command.issued' AND step = :step"
    await_(lambda: made.query(sql, id=int(execution_id), step=step)[0][0], lambda: heads(made, [execution_id]))


def ended(made: Bed, execution_id: str) -> tuple[Any, Any, Any]:
    await_(lambda: not running(made, [execution_id]), lambda: heads(made, [execution_id]))
    return told(made, execution_id)


def told(made: Bed, execution_id: str) -> tuple[Any, Any, Any]:
    sql = "SELECT status, result, error FROM noetl.execution WHERE execution_id = :id"
    status, result, error = made.query(sql, id=int(execution_id))[0]
    return status, (result or {}).get("data"), error


def test_a_rollback_and_an_upgrade_lose_no_step_and_no_value(made: Bed, releases: tuple[Release, Release]) -> None:
    old, new = releases
    made.effects.open.clear()
    with functions(made, new, new) as url:
        made.register(url, (LATER, EARLY, PASSED))
        later, early = start(made, url, "later", 1), start(made, url, "early", 2)
        for id in (later, early):
            at(made, id, "first")
    with functions(made, old, old) as url:
        made.effects.open.add("first")
        status, _, error = ended(made, early)
        assert status == "FAILED", "the release before has made something of a value that it cannot read"
        assert "there is no 'own'" in error["message"], error
        at(made, later, "second")
        assert ended(made, start(made, url, "passed", 3))[0] == "FAILED", "that release has learned it"
    with functions(made, new, new):
        made.effects.open.add("second")
        assert ended(made, later) == ("COMPLETED", {"v": 2 * SIZE}, None)
    assert len(made.effects.seen[1, "act"]) == 1


def test_a_worker_of_the_release_before_is_given_the_value(made: Bed, releases: tuple[Release, Release]) -> None:
    old, new = releases
    with functions(made, new, old) as url:
        made.register(url, (PASSED, SET))
        assert ended(made, start(made, url, "passed", 4)) == ("COMPLETED", {"v": SIZE}, None)
        status, _, error = ended(made, start(made, url, "sets", 5))
        assert (status, error["step"]) == ("FAILED", "make"), "that release sets no more than 64 KiB"


def test_a_control_plane_of_the_release_before_hands_on_the_reference_and_is_sent_none(
    made: Bed, releases: tuple[Release, Release]
) -> None:
    old, new = releases
    with functions(made, new, new, cut=True) as url:
        made.register(url, (HELD, SET))
        held = start(made, url, "held", 6)
        await_(lambda: 6 in made.effects.asked, lambda: heads(made, [held]))
    with functions(made, old, new) as url:
        made.effects.open.add("third")
        status, data, error = ended(made, held)
        assert (status, data["v"], error) == ("COMPLETED", SIZE, None)
        status, _, error = ended(made, start(made, url, "sets", 7))
        assert (status, error["code"]) == ("FAILED", "value.too_large"), "it was sent what it refuses"
        assert error["message"].startswith("'set.own' has")
