"""What waited, for a time, a signal or a rate, runs again at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from noetl_serverless.capsule.recording import Recording
from noetl_serverless.capsule.rerun import rerun
from noetl_serverless.engine import events as e
from noetl_serverless.errors import InvalidRequest
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.testing.engine import MemoryEngine
from noetl_serverless.testing.tools import FakeTool
from noetl_serverless.tools import registry
from noetl_serverless.tools.port import Credential, Tool

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\nworkflow:\n"


def playbook(*steps: str) -> str:
    return HEAD + "".join(f"  - {step}\n" for step in steps)


async def no_credential(name: str) -> Credential:
    raise KeyError(name)


async def record(
    folder: Path,
    text: str,
    signals: Sequence[tuple[str, Any]] = (),
    children: Mapping[str, str] | None = None,
    before: Callable[[Orchestrator, str], Awaitable[object]] | None = None,
) -> Recording:
    """Run a playbook. The signals are sent when something waits, one after the other, each after what is done `before`
    it, and times pass afterwards."""
    remaining = list(signals)

    def tool(kind: str) -> Tool:
        return registry.load(kind) if kind in ("wait", "noop", "playbook") else FakeTool(lambda call: call.input, [])

    async def answer() -> bool:
        for id, execution in (await engine.event_store.load(list(engine.event_store.executions))).items():
            for wait in execution.state.waits.values():
                if remaining and remaining[0][0] == wait.signal:
                    if before is not None:
                        await before(engine.orchestrator, id)
                    return await engine.orchestrator.controls.signal(id, wait.signal, remaining.pop(0)[1])
        return False

    engine = MemoryEngine(
        tool, folder, python=cast(Any, None), credential=no_credential, now=1.8e9, answer_waits=answer
    )
    for path, child in (children or {}).items():
        engine.catalog.register(child, path=path)
    engine.catalog.register(text)
    id = await engine.start("t/t", {})
    await engine.run_until_idle()

    def recording(id: str) -> Recording:
        row = engine.event_store.executions[id]
        entry = row.loaded
        nested = [recording(other) for other, row in engine.event_store.executions.items() if row.parent_id == id]
        text_of = text if entry.path == "t/t" else (children or {})[entry.path]
        return Recording(
            execution_id=id,
            path=entry.path,
            version=entry.version,
            plan_hash=entry.plan_hash,
            playbook=text_of,
            workload=row.workload,
            events=list(row.events),
            children=nested,
        )

    return recording(id)


ASK = "{step: ask, tool: {kind: wait, approval: manager, within: 2d}, "
ASK += "next: {arcs: [{step: refuse, when: \"{{ output.status == 'error' }}\"}, {step: go}]}}"
ANSWERED = (ASK, "{step: go, tool: {kind: http, url: 'http://x'}}", "{step: refuse, tool: {kind: noop}}")


@pytest.mark.parametrize("decision", [{"approved": True}, {"approved": False}, None])
async def test_an_approval_is_given_rejected_or_late_as_it_was(tmp_path: Path, decision: Any) -> None:
    recording = await record(tmp_path, playbook(*ANSWERED), [("manager", decision)] if decision else [])
    done = await rerun(recording)
    assert (done.status, done.missing, done.first_difference()) == ("completed", [], (None, None))
    assert ("go" in {event.step for event in done.events if event.type == e.ISSUED}) == (decision == {"approved": True})


async def test_a_wait_for_a_time_takes_none(tmp_path: Path) -> None:
    for tool in ("for: 3d", "until: '2027-06-01T00:00:00Z'", "until: '2020-06-01T00:00:00Z'"):
        recording = await record(tmp_path, playbook(f"{{step: n, tool: {{kind: wait, {tool}}}}}"))
        done = await rerun(recording)
        assert (done.status, done.missing, done.same) == ("completed", [], True), tool


@pytest.mark.parametrize("count", [0, 2, 4])
async def test_of_waits_for_one_signal_each_ends_as_it_did(tmp_path: Path, count: int) -> None:
    text = playbook(
        "{step: each, loop: {in: [60, 3600, 7200, 90], iterator: s, spec: {mode: parallel}}, "
        "spec: {policy: {failure: {mode: best_effort}}}, tool: {kind: wait, signal: paid, within: '{{ iter.s }}'}}"
    )
    recording = await record(tmp_path, text, [("paid", {"n": n}) for n in range(count)])
    done = await rerun(recording)
    assert (done.status, done.missing, done.first_difference()) == ("completed", [], (None, None))


async def test_a_task_of_a_pipeline_and_a_sub_playbook_wait_again(tmp_path: Path) -> None:
    text = playbook(
        "{step: a, tool: [{name: x, kind: http, url: 'http://x'}, {name: w, kind: wait, signal: go}, "
        "{name: y, kind: http, url: 'http://y', input: {got: '{{ w }}'}}], next: {arcs: [{step: b}]}}",
        "{step: b, tool: {kind: playbook, path: t/child}}",
    )
    child = playbook("{step: w, tool: {kind: wait, signal: go}}").replace("t/t", "t/child")
    recording = await record(tmp_path, text, [("go", 1), ("go", 2)], {"t/child": child})
    done = await rerun(recording)
    assert (done.status, done.missing, done.first_difference(), done.calls) == ("completed", [], (None, None), 2)


async def test_a_loop_with_a_rate_goes_on_when_its_window_is_over(tmp_path: Path) -> None:
    text = playbook(
        "{step: each, spec: {rate: {per: 1h, limit: 2}}, loop: {in: [1, 2, 3, 4, 5], iterator: n}, "
        "tool: {kind: http, url: 'http://x', input: {n: '{{ iter.n }}'}}}"
    )
    recording = await record(tmp_path, text)
    # the recording itself has waited for two windows
    assert recording.events[-1].at - recording.events[0].at >= 2 * 3600 * 1000
    done = await rerun(recording)
    assert (done.status, done.missing, done.calls, done.same) == ("completed", [], 5, True)


async def test_a_signal_that_another_version_waits_for_is_missing(tmp_path: Path) -> None:
    recording = await record(tmp_path, playbook(*ANSWERED), [("manager", {"approved": True})])
    done = await rerun(recording, recording.playbook.replace("approval: manager, within: 2d", "approval: director"))
    assert done.status == "running"
    assert [(call.step, call.why) for call in done.missing] == [
        ("ask", "the recording has no more approval 'director'")
    ]


@pytest.mark.parametrize("child", [True, False])
@pytest.mark.parametrize("did", ["set", "deleted"])
async def test_what_users_did_to_variables_is_not_left_out_and_it_says_so(
    tmp_path: Path, did: str, child: bool
) -> None:
    async def change(orchestrator: Orchestrator, id: str) -> object:
        if did == "deleted":
            return await orchestrator.controls.delete_variables(id, ["stop"])
        return await orchestrator.controls.set_variables(id, {"stop": True})

    text = playbook(
        "{step: a, tool: {kind: noop}, set: {vars.stop: false}, next: {arcs: [{step: w}]}}",
        "{step: w, tool: {kind: wait, signal: go}, next: {arcs: [{step: b, when: '{{ vars.stop }}'}]}}",
        "{step: b, tool: {kind: noop}}",
    )
    children = {"t/child": text.replace("t/t", "t/child")} if child else {}
    outer = playbook("{step: call, tool: {kind: playbook, path: t/child}}") if child else text
    assert (await rerun(await record(tmp_path, outer, [("go", 1)], children))).same, "variables of steps are no reason"
    recording = await record(tmp_path, outer, [("go", 1)], children, change)
    (of,) = recording.children or [recording]
    with pytest.raises(InvalidRequest, match=f"somebody {did} variables of execution {of.execution_id}.*: 'stop'"):
        await rerun(recording)


async def test_what_still_waits_in_the_recording_lacks_nothing(tmp_path: Path) -> None:
    text = playbook("{step: w, tool: {kind: wait, signal: go}}")
    recording = await record(tmp_path, text)
    done = await rerun(recording)
    assert (done.status, done.missing, done.same) == ("running", [], True)
