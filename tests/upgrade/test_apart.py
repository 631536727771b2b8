"""What the older release needs of an execution that was in quarantine: it reads the state, and the log no further."""

from __future__ import annotations

import pytest
from tests.unit.orchestrator.conftest import Engine, outcome

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import Decider

WORKFLOW = "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n"


def broken(decider: Decider) -> None:
    raise RuntimeError("no idea")


async def test_the_state_is_written_with_the_retry() -> None:
    engine = Engine()
    engine.catalog.add("t/t", WORKFLOW)
    id = await engine.start()
    [command] = await engine.claim()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decide.DECIDE, e.CALL_DONE, broken)
        await engine.report(outcome(command, {}))
    assert await engine.orchestrator.quarantined_executions(10)
    await engine.orchestrator.retry_quarantined(id)
    [retried] = [event for event in await engine.log.events(id) if event.type == e.RETRIED]
    case = (await engine.log.load([id]))[id]
    assert case.snapshot >= retried.seq, "who knows no retry folds an execution that has failed"
    assert (case.state.status, case.state.commands.keys()) == ("running", {"b#1"})
