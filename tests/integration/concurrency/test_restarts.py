"""Executions that go on with the same at once, of which one would undo what the others rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.integration.concurrency.harness import Harness, Plane, done
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.errors import Conflict, Unavailable
from noetl_serverless.orchestrator.restart import Restarted
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit

# version 1 undoes what it has done, version 2 does not
SAGA = """
workflow:
  - {step: a, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: b}]}}
  - {step: b, tool: {kind: noop}}
"""
PLAIN = SAGA.replace("compensate: {tool: {kind: noop}}, ", "")


async def cancelled(harness: Harness) -> str:
    """One that has done `a`."""
    await harness.add("t/saga", SAGA)
    await harness.add("t/saga", PLAIN)
    plane = harness.planes[0]
    old = (await plane.orchestrator.start(path="t/saga", version=1)).execution_id
    (command,) = await plane.claim()
    await plane.report(done(command))
    await plane.orchestrator.controls.cancel(old, "enough")
    return old


async def restart(plane: Plane, old: str, version: int) -> Restarted:
    return await plane.orchestrator.restart(old, await plane.log.events(old), {}, version=version)


async def begun(plane: Plane, sessions: Sessions, old: str, version: int) -> tuple[str, Any]:
    """A restart that has been written, and that nobody sees yet; and the session that is to commit it."""
    parts: list[ExecutionCommit] = []

    async def keep(commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        parts.extend(commits)
        raise Unavailable("it is written by hand")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plane.log, "commit", keep)
        with pytest.raises(Unavailable):
            await restart(plane, old, version)
    statement, params = plane.log._statement(parts, plane.log._project(parts))
    session = sessions.begin()
    id = parts[0].execution.execution_id
    assert session.run(statement, **params)[0][0]["good"] == [id]
    return id, session


@pytest.mark.parametrize("versions", [(1, 2), (2, 1)], ids=["the first undoes it", "the second undoes it"])
async def test_of_two_one_waits_for_the_other_and_is_refused(
    direct: Harness, sessions: Sessions, versions: tuple[int, int]
) -> None:
    old = await cancelled(direct)
    plane, other, _ = direct.planes
    first, session = await begun(plane, sessions, old, versions[0])
    second = await sessions.until_waiting(restart(other, old, versions[1]))
    assert not second.done()
    session.run("COMMIT")
    with pytest.raises(Conflict, match=f"execution {first}, which goes on with the same, has not ended"):
        await second
    assert {it.execution_id for it in await plane.log.related_restarts(old)} == {old, first}
    assert direct.findings() == []


async def test_two_that_undo_nothing_both_begin(direct: Harness, sessions: Sessions) -> None:
    old = await cancelled(direct)
    plane, other, _ = direct.planes
    first, session = await begun(plane, sessions, old, 2)
    second = await sessions.until_waiting(restart(other, old, 2))
    session.run("COMMIT")
    found = (await second).execution_id
    assert {it.execution_id for it in await plane.log.related_restarts(old)} == {old, first, found}
    assert direct.findings() == []
