"""A loop that failed, or was under way, goes on in a restart with the items that are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine, frame_of
from tests.unit.orchestrator.conftest import outcome as reported
from tests.unit.orchestrator.test_restart import BOOM, add, check, restart, restarted

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.events import Event
from noetl_serverless.protocol import FrameOutcome

LOOP = """
- step: each
  loop: {in: "{{ workload['items'] }}", iterator: n, spec: SPEC}
  tool:
    kind: noop
    input: {n: "{{ iter.n }}", total: "{{ ctx.total | default(0) }}"}
    spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.total: "{{ output.data.total }}"}}}}]}}
  next: {arcs: [{step: end}]}
- {step: end, tool: {kind: noop, input: {all: "{{ each.results }}", total: "{{ ctx.total | default(0) }}"}}}
"""
PARALLEL = LOOP.replace("SPEC", "{mode: parallel, max_in_flight: 2}")
SEQUENTIAL = LOOP.replace("SPEC", "{mode: sequential}")
HEAD = "workload: {items: [a, b, c, d, e]}\n"


class Hands:
    """Runs what there is; items of the loop succeed but for `bad`. `ran`: how often each item did."""

    def __init__(self, engine: Engine, *bad: int, large: bool = False, sets: bool = False) -> None:
        self.engine, self.bad, self.large, self.sets = engine, set(bad), large, sets
        self.ran: Counter[int] = Counter()

    async def run(self, *, at_most: int = 1000) -> None:
        while at_most > 0 and (commands := await self.engine.claim(1)):
            for command in commands:
                at_most -= 1
                await self.engine.report(self._outcome(command))

    def _outcome(self, command: Any) -> Any:
        if command.frame is None:
            return reported(command, {"of": command.execution_id})
        window = frame_of(command)
        items = range(window.start, window.end)
        self.ran.update(items)
        errors = {str(index): BOOM for index in items if index in self.bad}
        counts = {"start": window.start, "end": window.end, "ok": len(items) - len(errors), "failed": len(errors)}
        results: list[Any] = [None if index in self.bad else {"item": index} for index in items]
        if self.large:
            results = [result and {**result, "text": "x" * 20_000} for result in results]
        more: dict[str, Any] = {}
        if self.sets and not errors:
            more = {"set": {"total": 10 * window.end, f"of_{window.start}": 1}, "set_by": self._set_by(window)}
        return reported(command, results, frame=FrameOutcome(**counts, errors=errors), **more)

    def _set_by(self, window: Any) -> Any:
        return {"total": window.end - 1, f"of_{window.start}": window.end - 1}


async def begun(engine: Engine, workflow: str, hands: Hands, **more: Any) -> str:
    add(engine, workflow, HEAD)
    id = await engine.start()
    await hands.run(**more)
    return id


async def ended(engine: Engine, id: str) -> Mapping[str, Any]:
    """The outcomes of an execution that has completed."""
    state = (await engine.log.load([id]))[id].state
    assert state.status == "completed", state.error
    return state.outcomes


async def test_only_the_items_that_are_left_run_again(either: Engine) -> None:
    hands = Hands(either, 1)
    old = await begun(either, PARALLEL, hands)
    done = sum(hands.ran.values()) - 1
    hands.bad.clear()
    found = await restart(either, old)
    new = found.execution_id or ""
    assert ([loop.done for loop in found.restart.loops], found.restart.again) == ([done], ["each"])
    assert found.restart.warnings == []
    await hands.run()

    assert hands.ran == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1}
    outcome = (await ended(either, new))["each"]
    assert outcome["data"]["results"] == [{"item": index} for index in range(5)]
    assert outcome["data"]["stats"] == {"total": 5, "success": 5, "failed": 0}
    log = await check(either, new)
    taken = [event.type for event in log if event.cause is None and event.type not in e.REPORTS]
    assert taken == [e.STARTED, e.LOOP_REUSED, *[e.FRAME_REUSED] * done, e.RESTARTED], "items 0 and 2 are no one range"
    await check(either, old)


async def test_items_of_a_loop_that_was_cancelled_stay_done(either: Engine) -> None:
    hands = Hands(either)
    old = await begun(either, PARALLEL, hands, at_most=3)
    await either.orchestrator.controls.cancel(old, "enough")
    new = await restarted(either, old)
    await hands.run()

    assert sorted(hands.ran.values()) == [1] * 5
    assert (await ended(either, new))["each"]["data"]["stats"]["success"] == 5
    await check(either, new)


async def test_a_restart_can_be_restarted(either: Engine) -> None:
    hands = Hands(either, 2, 4)
    id = await begun(either, PARALLEL, hands)
    for bad in ({4}, set()):
        hands.bad = bad
        id = await restarted(either, id)
        await hands.run()
        await check(either, id)

    assert [hands.ran[index] for index in (0, 1, 3)] == [1, 1, 1]
    assert [result["item"] for result in (await ended(either, id))["each"]["data"]["results"]] == [0, 1, 2, 3, 4]


async def test_the_digest_counts_the_items_that_were_reused(either: Engine) -> None:
    calm = await begun(either, PARALLEL, Hands(either))
    hands = Hands(either, 3)
    old = await begun(either, PARALLEL, hands)
    hands.bad.clear()
    one, other = await restarted(either, old), await restarted(either, old)
    await hands.run()

    logs = {id: await either.log.events(id) for id in (calm, one, other)}
    digests = {id: digest(id, log).value for id, log in logs.items()}
    assert digests[one] == digests[other] != digests[calm]
    loops = [
        link.content["loop"] for id, log in logs.items() for link in digest(id, log).links if link.name == "each#1"
    ]
    assert loops[0] == loops[1] == loops[2]
    damaged = [spoilt(event) for event in logs[one]]
    assert digest(one, damaged).value != digests[one]


def spoilt(event: Event) -> Event:
    if event.type != e.FRAME_REUSED:
        return event
    payload = {**event.payload, "data": [None for _ in event.payload["data"]]}
    return Event(event.type, event.at, seq=event.seq, step=event.step, generation=event.generation, payload=payload)


async def test_large_results_are_read_from_both_executions(either: Engine) -> None:
    hands = Hands(either, 4, large=True)
    old = await begun(either, PARALLEL, hands)
    hands.bad.clear()
    new = await restarted(either, old)
    await hands.run()

    outcome = (await ended(either, new))["each"]
    assert (outcome["ref"]["kind"], outcome["ref"]["count"]) == ("manifest", 5)
    frames = [event for event in await check(either, new) if event.type in e.FRAMES]
    items = [
        item["item"]
        for frame in sorted(frames, key=lambda it: int(it.payload["start"]))
        for item in frame.payload["data"]
    ]
    assert items == [0, 1, 2, 3, 4]
    assert all(len(frame.payload["data"]) <= 3 for frame in frames), "more than may stand in one event"


async def test_the_highest_item_wins_in_ctx_whichever_execution_ran_it(either: Engine) -> None:
    hands = Hands(either, 1, sets=True)
    old = await begun(either, PARALLEL, hands)
    last = max(hands.ran)
    hands.bad.clear()
    new = await restarted(either, old)
    begins = next(event for event in await either.log.events(new) if event.type == e.RESTARTED)
    assert begins.payload["ctx"]["total"] == 10 * (last + 1)
    await hands.run()

    state = (await either.log.load([new]))[new].state
    assert state.ctx == {"total": 50, **{f"of_{index}": 1 for index in range(5)}}
    assert state.writers == {}
    await check(either, new)


async def test_an_item_of_a_sequential_loop_sees_what_those_before_it_have_set(either: Engine) -> None:
    hands = Hands(either, 2, sets=True)
    old = await begun(either, SEQUENTIAL, hands)
    assert sorted(hands.ran) == [0, 1, 2]
    hands.bad.clear()
    new = await restarted(either, old)
    first = next(event for event in await either.log.events(new) if event.type == e.ISSUED)
    assert (first.payload["frame"][1], first.payload["scope"]["ctx"]) == (2, {"total": 20})
    await hands.run()

    assert hands.ran == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}
    assert (await check(either, new))[-1].type == e.COMPLETED


async def test_a_loop_that_is_named_begins_anew(either: Engine) -> None:
    hands = Hands(either, 1)
    old = await begun(either, PARALLEL, hands)
    before, hands.bad = hands.ran.copy(), set()
    found = await restart(either, old, step="each")
    assert found.restart.loops == []
    await hands.run()
    assert hands.ran - before == Counter(range(5))


@pytest.mark.parametrize(
    ("changed", "payload", "warning"),
    [
        (
            PARALLEL.replace("workload['items']", "workload['items'][::-1]"),
            {},
            "begins anew, with the items that its loop has now: its loop has another `in` or `mode`",
        ),
        (SEQUENTIAL, {}, "run again: its loop has another `in` or `mode`"),
        (
            PARALLEL,
            {"items": ["x"]},
            "begins anew, with the items that its loop has now: its `in` reads what is changed",
        ),
    ],
    ids=["another collection", "another mode", "another workload"],
)
async def test_a_loop_over_something_else_begins_anew(
    either: Engine, changed: str, payload: dict[str, Any], warning: str
) -> None:
    hands = Hands(either, 1)
    old = await begun(either, PARALLEL, hands)
    hands.bad.clear()
    hands.ran.clear()
    add(either, changed, HEAD)
    found = await restart(either, old, version="latest", payload=payload)
    assert [text for text in found.restart.warnings if warning in text]
    await hands.run()
    assert hands.ran == Counter(range(1 if payload else 5))
    await check(either, found.execution_id or "")


async def test_a_loop_whose_tool_was_mended_goes_on(either: Engine) -> None:
    hands = Hands(either, 1)
    old = await begun(either, PARALLEL, hands)
    hands.bad.clear()
    add(either, PARALLEL.replace('n: "{{ iter.n }}"', 'n: "{{ iter.n | upper }}"'), HEAD)
    new = await restarted(either, old, version="latest", payload={"other": 1, "ctx": {"more": 2}})
    await hands.run()
    assert hands.ran == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1}
    await check(either, new)


async def test_a_loop_that_comes_after_what_runs_again_begins_anew(either: Engine) -> None:
    hands = Hands(either, 1)
    first = "- {step: first, tool: {kind: noop}, next: {arcs: [{step: each}]}}"
    old = await begun(either, first + PARALLEL, hands)
    hands.bad.clear()
    hands.ran.clear()
    found = await restart(either, old, step="first")
    assert found.restart.loops == []
    await hands.run()
    assert hands.ran == Counter(range(5))


@pytest.mark.parametrize("undone", [False, True])
async def test_of_the_items_that_it_had_done_a_warning_tells(engine: Engine, undone: bool) -> None:
    old, hands = await cancelled_in_the_loop(engine, BESIDE if undone else BESIDE.replace(UNDOABLE, ""))
    done = sum(hands.ran.values())
    assert 0 < done < 5
    found = await restart(engine, old, step="start", dry_run=True)
    nor = ", nor undone if this execution fails" if undone else ""
    assert (found.restart.loops, found.restart.warnings) == ([], [f"{ANEW}{nor}: {done}"])


async def test_nothing_is_said_of_a_loop_that_is_done_and_runs_again(engine: Engine) -> None:
    first = "- {step: first, tool: {kind: noop}, next: {arcs: [{step: each}]}}"
    old = await begun(engine, first + PARALLEL, Hands(engine))
    found = await restart(engine, old, step="first", dry_run=True)
    assert (found.restart.loops, found.restart.warnings) == ([], [])


async def test_a_loop_waits_for_what_the_newer_version_puts_before_it(
    either: Engine,
) -> None:
    """Its join has to wait: what is done stays in the state until then."""
    branches = """
- {step: start, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: each}, {step: other}]}}
- {step: other, tool: {kind: noop}}
"""
    hands = Hands(either, 1)
    old = await begun(either, branches + PARALLEL, hands)
    hands.bad.clear()
    add(
        either,
        branches.replace(
            "{step: other, tool: {kind: noop}}", "{step: other, tool: {kind: noop}, next: {arcs: [{step: each}]}}"
        )
        + PARALLEL,
        HEAD,
    )
    new = await restarted(either, old, version="latest")
    await hands.run()
    assert hands.ran[0] == 1
    assert (await check(either, new))[-1].type == e.COMPLETED


BESIDE = """
- {step: start, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}, {step: each}]}}
- {step: left, tool: {kind: noop}}
- {step: right, tool: {kind: noop}}
- step: each
  loop: {in: "{{ workload['items'] }}", iterator: n, spec: {mode: parallel, max_in_flight: 1}}
  tool: {kind: noop}
  compensate: {tool: {kind: noop, input: {was: "{{ each.stats.success }}", all: "{{ each.results }}"}}}
"""


async def cancelled_in_the_loop(engine: Engine, workflow: str) -> tuple[str, Hands]:
    """One of whose loop some items are done."""
    add(engine, workflow, HEAD)
    old = await engine.start()
    (command,) = await engine.claim()
    await engine.report(reported(command), by=engine.another())
    hands = Hands(engine)
    for command in await engine.claim():
        if command.step == "each":
            await engine.report(hands._outcome(command), by=engine.another())
    await engine.orchestrator.controls.cancel(old, "enough")
    return old, hands


async def test_the_items_that_are_done_are_undone_also_if_it_fails_before_their_loop_goes_on(engine: Engine) -> None:
    old, hands = await cancelled_in_the_loop(engine, BESIDE)
    done = sum(hands.ran.values())
    assert 0 < done < 5
    add(engine, BESIDE, HEAD + "executor: {spec: {budget: {max_invocations: 1}}}\n")
    new = await restarted(engine, old, version="latest")
    (command,) = await engine.claim()
    undone = command.scope["steps"]["each"]["data"]
    assert (command.step, undone["stats"]) == ("each.compensate", {"total": 5, "success": done, "failed": 0})
    assert [result["item"] for result in undone["results"] if result] == sorted(hands.ran)
    await engine.report(reported(command))
    await check(engine, new)
    state = (await engine.log.load([new]))[new].state
    error = state.error or {}
    assert (state.status, error["code"]) == ("failed", "budget.exceeded")
    assert error["compensation"] == {"done": ["each"], "failed": []}


async def left_waiting(engine: Engine, workflow: str = BESIDE) -> tuple[str, Hands]:
    """One that goes on with some items of another execution, and ended before it opened their loop."""
    old, hands = await cancelled_in_the_loop(engine, workflow)
    add(engine, workflow, HEAD + "executor: {spec: {budget: {max_invocations: 1}}}\n")
    first = await restarted(engine, old, version="latest")
    assert (await engine.orchestrator.state(first)).status == "failed"
    assert e.LOOP_OPENED not in [event.type for event in await engine.log.events(first)]
    add(engine, workflow, HEAD)
    return first, hands


# `left` was under way when the execution was cancelled, and so runs again
LEFT = "- {step: left, tool: {kind: noop}"
BEHIND = BESIDE.replace(LEFT, f"{LEFT}, next: {{arcs: [{{step: each}}]}}")


@pytest.mark.parametrize("fails", [True, False])
async def test_the_items_that_are_done_wait_for_a_step_that_the_newer_version_puts_before_them(
    either: Engine, fails: bool
) -> None:
    old, hands = await cancelled_in_the_loop(either, BESIDE)
    done = sum(hands.ran.values())
    assert 0 < done < 5
    add(either, BEHIND, HEAD)
    found = await restart(either, old, version="latest")
    new = found.execution_id or ""
    assert ([loop.done for loop in found.restart.loops], found.restart.warnings) == ([done], [])
    left = {command.step: command for command in await either.claim()}
    assert left.keys() == {"left", "right"}, "the loop waits"
    await either.report(reported(left["right"]))
    if not fails:
        await either.report(reported(left["left"]))
        await hands.run()
        assert hands.ran == Counter(range(5))
        assert (await ended(either, new))["each"]["data"]["stats"]["success"] == 5
    else:
        await either.report(reported(left["left"], status="error", error=BOOM))
        (command,) = await either.claim()
        undone = command.scope["steps"]["each"]["data"]
        assert (command.step, undone["stats"]) == ("each.compensate", {"total": 5, "success": done, "failed": 0})
        await either.report(reported(command))
        error = (await either.orchestrator.state(new)).error or {}
        assert (error["step"], error["compensation"]) == ("left", {"done": ["each"], "failed": []})
    await check(either, new)


async def test_they_are_undone_also_if_their_loop_is_not_admitted_any_more(either: Engine) -> None:
    old, _ = await cancelled_in_the_loop(either, BESIDE)
    refused = "spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}"
    last = """
  next: {arcs: [{step: last, when: "{{ event.name == 'step.skipped' }}"}]}
- {step: last, tool: {kind: noop}}
"""
    add(either, BEHIND.replace("- step: each\n", f"- step: each\n  {refused}\n") + last, HEAD)
    new = await restarted(either, old, version="latest")
    while commands := await either.claim(1):
        (command,) = commands
        failed: dict[str, Any] = {"status": "error", "error": BOOM} if command.step == "last" else {}
        await either.report(reported(command, **failed))
    error = (await either.orchestrator.state(new)).error or {}
    assert (error["step"], error["compensation"]) == ("last", {"done": ["each"], "failed": []})
    await check(either, new)


async def test_of_the_items_of_a_loop_that_was_not_admitted_since_a_warning_tells(either: Engine) -> None:
    old, hands = await cancelled_in_the_loop(either, BESIDE)
    refused = "spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}"
    add(either, BEHIND.replace("- step: each\n", f"- step: each\n  {refused}\n"), HEAD)
    new = await restarted(either, old, version="latest")
    while commands := await either.claim(1):
        await either.report(reported(commands[0]))
    assert (await either.orchestrator.state(new)).status == "completed"
    add(either, BESIDE, HEAD)
    found = await restart(either, new, version="latest", step="left", dry_run=True)
    done = sum(hands.ran.values())
    assert (found.restart.loops, found.restart.warnings[:1]) == (
        [],
        [f"{ANEW}, nor undone if this execution fails: {done}"],
    )


UNDOABLE = '  compensate: {tool: {kind: noop, input: {was: "{{ each.stats.success }}", all: "{{ each.results }}"}}}\n'


async def test_items_go_over_twice_though_their_loop_did_not_begin_in_between(either: Engine) -> None:
    first, hands = await left_waiting(either, BESIDE.replace(UNDOABLE, ""))
    done = sum(hands.ran.values())
    assert 0 < done < 5
    found = await restart(either, first, version="latest")
    assert ([loop.done for loop in found.restart.loops], found.restart.warnings) == ([done], [])
    await hands.run()
    assert hands.ran == Counter(range(5))
    assert (await ended(either, found.execution_id or ""))["each"]["data"]["stats"]["success"] == 5
    await check(either, found.execution_id or "")


ANEW = (
    "each begins anew, with the items that its loop has then: what leads to it runs again; items that were done "
    "before, and are not taken over"
)


async def test_they_do_not_if_what_leads_to_their_loop_runs_again(engine: Engine) -> None:
    first, hands = await left_waiting(engine, BESIDE.replace(UNDOABLE, ""))
    before = hands.ran.copy()
    found = await restart(engine, first, version="latest", step="start")
    done = sum(before.values())
    assert (found.restart.loops, found.restart.warnings) == ([], [f"{ANEW}: {done}"])
    await hands.run()
    assert hands.ran - before == Counter(range(5))
    await check(engine, found.execution_id or "")


CHANGED = (
    BESIDE
    + """
  next: {arcs: [{step: after, when: "{{ event.name in ('loop.failed', 'step.skipped') }}"}, {step: end}]}
- {step: after, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: last}]}}
- {step: last, tool: {kind: noop}}
- {step: end, tool: {kind: noop}}
"""
)
NO_WIDTH = CHANGED.replace("max_in_flight: 1", "max_in_flight: \"{{ 'many' }}\"")
NOT_ADMITTED = CHANGED.replace(
    "- step: each\n", "- step: each\n  spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}\n"
)


@pytest.mark.parametrize("changed", [NO_WIDTH, NOT_ADMITTED], ids=["no width", "not admitted"])
async def test_the_items_that_are_done_are_undone_if_their_loop_is_not_opened_any_more(
    either: Engine, changed: str
) -> None:
    old, hands = await cancelled_in_the_loop(either, CHANGED)
    done = sum(hands.ran.values())
    assert 0 < done < 5
    add(either, changed, HEAD)
    new = await restarted(either, old, version="latest")
    undone: list[str] = []
    while commands := await either.claim(1):
        for command in commands:
            if command.step.endswith(".compensate"):
                undone.append(command.step)
            if command.step == "each.compensate":
                items = command.scope["steps"]["each"]["data"]
                assert items["stats"] == {"total": 5, "success": done, "failed": 0}
                assert [result["item"] for result in items["results"] if result] == sorted(hands.ran)
            if command.step == "last":
                await either.report(reported(command, status="error", error=BOOM))
            else:
                await either.report(reported(command))
    assert undone == ["after.compensate", "each.compensate"]
    state = await either.orchestrator.state(new)
    assert (state.error or {})["compensation"] == {"done": ["after", "each"], "failed": []}
    await check(either, new)


async def test_items_that_ended_well_and_run_again_are_counted_in_a_warning(either: Engine) -> None:
    """All in one command, whose `set` is not known to be of which item."""
    add(either, PARALLEL.replace("max_in_flight: 2", "max_in_flight: 2, policy: {exec: local}"), HEAD)
    old = await either.start()
    lost = 0
    while commands := await either.claim(1):
        for command in commands:
            window = frame_of(command)
            size = window.end - window.start
            counts = {"start": window.start, "end": window.end, "ok": size - 1, "failed": 1}
            lost += size - 1
            frame = FrameOutcome(**counts, errors={str(window.start): BOOM})
            results: list[Any] = [None, *[{"item": 1}] * (size - 1)]
            await either.report(reported(command, results, frame=frame, set={"total": 1}))
    found = await restart(either, old)
    assert (lost > 0, found.restart.loops) == (True, [])
    assert [text for text in found.restart.warnings if f"items of each that ended well and run again: {lost}." in text]


ROWS = """
- step: each
  loop:
    cursor: {kind: postgres, auth: db, claim: "UPDATE t SET taken = true RETURNING id"}
    iterator: row
    spec: {mode: cursor, max_in_flight: 1}
  tool: {kind: noop}
  compensate: {tool: {kind: noop}}
  next: {arcs: [{step: end}]}
- {step: end, tool: {kind: noop}}
"""


COMPENSATED = PARALLEL.replace(
    "  next: {arcs: [{step: end}]}", "  compensate: {tool: {kind: noop}}\n  next: {arcs: [{step: end}]}"
)
NO_LOOP = """
- {step: each, tool: {kind: noop}, next: {arcs: [{step: end}]}}
- {step: end, tool: {kind: noop}}
"""


@pytest.mark.parametrize(
    ("before", "now", "warning"),
    [
        (PARALLEL, NO_LOOP, "each is no loop any more: items that were done before, and are not taken over: DONE"),
        (
            COMPENSATED,
            NO_LOOP,
            "each is no loop any more: items that were done before, and are not taken over, nor undone if this "
            "execution fails: DONE",
        ),
        (
            COMPENSATED,
            COMPENSATED.replace("workload['items']", "[7, 8]"),
            "each begins anew, with the items that its loop has now: its loop has another `in` or `mode` now; items "
            "that were done before, and are not taken over, nor undone if this execution fails: DONE",
        ),
        (
            PARALLEL,
            PARALLEL.replace("parallel, max_in_flight: 2", "sequential"),
            "all 5 items of each run again: its loop has another `in` or `mode` now",
        ),
    ],
    ids=["no loop", "no loop, compensated", "another collection", "another mode"],
)
async def test_items_that_a_newer_version_does_not_take_over_are_counted(
    either: Engine, before: str, now: str, warning: str
) -> None:
    old = await begun(either, before, Hands(either), at_most=2)
    done = (await either.log.load([old]))[old].state.loops["each#1"].ok
    assert 0 < done < 5
    await either.orchestrator.controls.cancel(old, "enough")
    add(either, now, HEAD)
    warning = warning.replace("DONE", str(done))
    assert warning in (await restart(either, old, version="latest", dry_run=True)).restart.warnings


@pytest.mark.parametrize("undone", [True, False])
async def test_rows_that_were_done_before_and_are_not_undone_are_counted_in_a_warning(
    engine: Engine, undone: bool
) -> None:
    add(engine, ROWS if undone else ROWS.replace("  compensate: {tool: {kind: noop}}\n", ""))
    old = await engine.start()
    (command,) = await engine.claim()
    window = frame_of(command)
    counts = {"start": window.start, "end": window.start + 1, "ok": 1, "failed": 0}
    await engine.report(reported(command, [{"id": 1}], frame=FrameOutcome(**counts)), by=engine.another())
    await engine.orchestrator.controls.cancel(old, "enough")
    warning = (
        "rows of each that were done before: 1. They are not claimed again, and not undone if this execution fails"
    )
    assert (await restart(engine, old)).restart.warnings == ([warning] if undone else [])


@pytest.mark.parametrize("restarts", [1, 2])
async def test_what_items_have_set_that_stay_done_is_nothing_that_those_beside_them_see(
    either: Engine, restarts: int
) -> None:
    hands = Hands(either, sets=True)
    id = await begun(either, PARALLEL, hands, at_most=1)
    for _ in range(restarts):
        await either.orchestrator.controls.cancel(id, "enough")
        id = await restarted(either, id)
        (command,) = await either.claim(1)
        assert command.scope["ctx"] == {}, "an item sees what one beside it has set"
        await either.report(hands._outcome(command))
    await hands.run()
    assert sorted(hands.ran.values()) == [1] * 5
    assert (await ended(either, id))["end"]["status"] == "ok"
    assert (await either.log.load([id]))[id].state.ctx["total"] == 50
    await check(either, id)


@pytest.mark.parametrize("workflow", [PARALLEL, SEQUENTIAL])
async def test_what_an_item_that_stays_done_had_set_before_it_waited_stays_set(either: Engine, workflow: str) -> None:
    add(either, workflow, HEAD)
    old = await either.start()
    command = (await either.claim(1))[0]
    window = frame_of(command)
    wait = {"signal": "go"}
    set_before = {"set": {"total": 7}, "set_by": {"total": window.end - 1}}
    await either.report(reported(command, status="parked", wait=wait, resume={}, **set_before))
    await either.orchestrator.controls.signal(old, "go", None)
    (command,) = [it for it in await either.claim() if it.frame is not None and frame_of(it).start == window.start]
    counts = {"start": window.start, "end": window.end, "ok": window.end - window.start, "failed": 0}
    results = list(range(window.start, window.end))
    await either.report(reported(command, results, frame=FrameOutcome(**counts)))
    await either.orchestrator.controls.cancel(old, "enough")
    new = await restarted(either, old)
    assert (await either.orchestrator.state(new)).ctx["total"] == 7
    await check(either, new)


async def test_items_in_sequence_and_values_that_are_given_are_seen(engine: Engine) -> None:
    for workflow, given, seen in ((SEQUENTIAL, {}, 10), (PARALLEL, {"ctx": {"total": 7}}, 7)):
        hands = Hands(engine, sets=True)
        old = await begun(engine, workflow, hands, at_most=1)
        await engine.orchestrator.controls.cancel(old, "enough")
        await restarted(engine, old, payload=given)
        command = (await engine.claim(1))[0]
        assert command.scope["ctx"] == {"total": seen}, workflow
