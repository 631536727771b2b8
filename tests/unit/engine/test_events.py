"""The names that stand in the log."""

from __future__ import annotations

from noetl_serverless.engine import events as e


def test_events_are_stored_under_these_names() -> None:
    assert {
        "playbook.initialized",
        "call.done",
        "call.error",
        "call.deferred",
        "call.parked",
        "frame.committed",
        "timer.fired",
        "child.ended",
        "signal.received",
        "execution.paused",
        "execution.resumed",
        "parent.failed",
        "execution.cancelled",
        "execution.retried",
        "execution.dropped",
        "step.reused",
        "loop.reused",
        "frame.reused",
        "execution.restarted",
        "variables.set",
        "variables.deleted",
    } == e.FACTS
    assert {
        "command.issued",
        "step.exit",
        "step.skipped",
        "step.timed_out",
        "loop.opened",
        "loop.done",
        "timer.set",
        "child.started",
        "wait.started",
        "wait.ended",
        "compensation.started",
        "step.stopped",
        "playbook.completed",
        "playbook.failed",
    } == e.DECISIONS
    assert (e.IGNORED, e.QUARANTINED, e.UNDECIDABLE) == ("ignored", "quarantined", "engine.undecidable")
