"""Playbooks that wait, are paused, undo what they have done, are gone on with, or are started by events; and what users
and senders do to them meanwhile."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.oracle.names import Outcome
from tests.oracle.playbook import read
from tests.oracle.prediction import predict
from tests.oracle.tasks import Call

from .controls import Control, Delivery
from .loop import Loop
from .scripted import answer_to
from .side_playbooks import FAILED, Maker, Promise, SidePlaybook, arc, playbook, to

RETRY = {"do": "retry", "attempts": 3, "backoff": "fixed"}
ON_ERROR = "{{ output.status == 'error' }}"
# when users have sent what is waited for at the latest, in seconds
LATE = 14.0


def controlled_playbook(rng: random.Random, number: int) -> SidePlaybook:
    weights = [weight for weight, _ in RECIPES]
    (_, recipe) = rng.choices(RECIPES, weights)[0]
    return recipe(Maker(rng, recipe.__name__, f"sim/controlled{number}"))


def _executor(make: Maker, **more: Any) -> dict[str, Any]:
    return {**more, **({"durability": "pipelined"} if make.rng.random() < 0.3 else {})}


def _with_pauses(make: Maker, controls: Sequence[Control] = ()) -> tuple[Control, ...]:
    """For a while, at any time: also while a signal is sent."""
    rng, found, at = make.rng, list(controls), 0.0
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        at += 0.011 + rng.random() * rng.choice((0.3, 3.0, 9.0))
        found.append(Control(at, "pause"))
        at += 0.013 + rng.random() * rng.choice((0.3, 9.0, 30.0))
        found.append(Control(at, "resume"))
    return tuple(sorted(found, key=lambda control: control.at))


def _retried(tool: dict[str, Any], delay: float) -> dict[str, Any]:
    rule = {"when": ON_ERROR, "then": {**RETRY, "delay": delay}}
    return {**tool, "spec": {"policy": {"rules": [rule]}}}


# -- waits


def signals_are_waited_for(make: Maker) -> SidePlaybook:
    """By a step, a task of a list, the items of a loop, and as an approval; before they are waited for, and after."""
    rng, items = make.rng, make.rng.choice((1, 3, 6))
    slow = make.tool()
    slow["input"]["ms"] = rng.choice((1, 2500, 6000))
    make.step("s0", slow, next=to({"step": "s1"}))
    go = {"kind": "wait", "signal": "go"}
    make.step("s1", go, set={"ctx.first": "{{ output.data }}"}, next=to({"step": "s2"}))
    make.step("s2", [{**go, "name": "hold"}, {**make.tool("{{ hold }}"), "name": "use"}], next=to({"step": "s3"}))
    spec = rng.choice(({"mode": "parallel", "max_in_flight": rng.choice((2, 8))}, {"mode": "sequential"}))
    loop = {"in": f"{{{{ range({items}) | list }}}}", "iterator": "it", "spec": spec}
    make.step("s3", {"kind": "wait", "signal": "item"}, loop=loop, next=to({"step": "s4"}))
    make.step("s4", make.tool("{{ s3.results }}"), next=to({"step": "s5"}))
    approval = {"kind": "wait", "approval": "boss", "within": "1h"}
    make.step("s5", approval, next=to(arc("s6", FAILED, set={"ctx.why": "{{ error.code }}"}), arc("s7")))
    make.step("s6", make.tool("{{ s5.status }}"), next=to({"step": "s8"}))
    make.step("s7", make.tool("{{ s5 }}"), next=to({"step": "s8"}))
    never = {"kind": "wait", "signal": "never", "within": rng.choice((1, 6))}
    make.step("s8", never, next=to(arc("s9", FAILED, set={"ctx.never": "{{ error.code }}"})))
    make.step("s9", make.tool("{{ s2.v }}"))
    decision = {"approved": rng.random() < 0.6, "comment": "as agreed"}
    wanted = [("go", 1), ("go", {"n": 2}), *[("item", "x")] * items, ("boss", decision), ("left over", None)]
    rng.shuffle(wanted)
    ats = sorted(0.003 + rng.random() * rng.choice((0.1, LATE)) for _ in wanted)
    sent = [
        Control(at, "signal", name, data, f"k{n}") for n, (at, (name, data)) in enumerate(zip(ats, wanted, strict=True))
    ]
    # said again, which changes nothing
    again = [replace(one, at=one.at + rng.random() * LATE) for one in sent if rng.random() < 0.3]
    controls = _with_pauses(make, [*sent, *again])
    signals: dict[str, list[Any]] = defaultdict(list)
    for one in sent:
        signals[one.signal].append(one.data)
    return replace(_predicted(make, {"s4": "v", "s9": "v"}, signals), controls=controls)


def times_are_waited_for(make: Maker) -> SidePlaybook:
    """By a step, a task, the items of a loop; until an instant, perhaps past; and longer than the step may take."""
    rng = make.rng
    instant = datetime.fromtimestamp(Loop.EPOCH + rng.choice((-9, 3, 20, 70)), UTC).isoformat()
    make.step("s0", {"kind": "wait", "for": rng.choice(("1s", "7s", 20))}, next=to({"step": "s1"}))
    make.step("s1", {"kind": "wait", "until": instant}, next=to({"step": "s2"}))
    tasks = [
        {**make.tool(), "name": "a"},
        {"name": "b", "kind": "wait", "for": 6},
        {**make.tool("{{ a.v }}"), "name": "c"},
    ]
    make.step("s2", tasks, next=to({"step": "s3"}))
    spec = rng.choice(({"mode": "parallel", "max_in_flight": 3}, {"mode": "sequential"}))
    loop = {"in": "{{ range(4) | list }}", "iterator": "it", "spec": spec}
    make.step("s3", {"kind": "wait", "for": "{{ iter.it + 5 }}"}, loop=loop, next=to({"step": "s4"}))
    policy = {"lifecycle": {"timeout": rng.choice((6, 30))}}
    over = arc("s5", FAILED, set={"ctx.late": "{{ error.code }}"})
    make.step("s4", {"kind": "wait", "for": "1h"}, spec={"policy": policy}, next=to(over))
    make.step("s5", make.tool("{{ s3.results }}"))
    promise = Promise("completed", ctx={"late": "step.timeout"})
    return replace(make.made(promise, executor=_executor(make)), controls=_with_pauses(make))


# -- what is undone


def what_is_done_is_undone(make: Maker) -> SidePlaybook:
    """One step after the other, and at last one that fails, in one of many ways."""
    rng = make.rng
    count = rng.randint(1, 5)
    for index in range(count):
        name, before = f"s{index}", f"{{{{ s{index - 1} | string | length }}}}" if index else "0"
        tool = make.tool(before, fail=rng.choice((0, 0, 1)))
        undo = make.tool(f"{{{{ {name} | string | length }}}}", fail=rng.choice((0, 0, 1, 9)))
        undo["input"]["ms"] = rng.choice((1, 400, 3000))
        compensation: Any = {"tool": _retried(undo, rng.choice((0.1, 6)))}
        more: dict[str, Any] = {}
        if rng.random() < 0.25:
            more["loop"] = {"in": "{{ range(3) | list }}", "iterator": "it", "spec": {"mode": "sequential"}}
            each = {"in": f"{{{{ {name}.results }}}}", "iterator": "made", "spec": {"mode": "sequential"}}
            compensation |= {"loop": each}
        if (chance := rng.random()) < 0.7:
            more["compensate"] = compensation
        elif chance < 0.8:
            more["compensate"] = "none"
        make.step(name, _retried(tool, rng.choice((0.1, 6))), next=to({"step": f"s{index + 1}"}), **more)
    _fails(make, f"s{count}")
    return replace(_predicted(make, {}), controls=_with_pauses(make))


def _fails(make: Maker, name: str) -> None:
    undo = {"tool": make.tool("{{ output | default('') }}")}
    match make.rng.choice(("tool", "set", "items", "wait", "arc")):
        case "tool":
            make.step(name, make.tool(fail=9), compensate=undo)
        case "set":
            # its effect has been
            make.step(name, make.tool(), compensate=undo, set={"ctx.x": "{{ output.data.nothing.more }}"})
        case "items":
            loop = {"in": "{{ [0, 0, 9, 0] }}", "iterator": "it", "spec": {"mode": "sequential"}}
            make.step(name, make.tool(fail="{{ iter.it }}"), loop=loop, compensate=undo)
        case "arc":
            make.step(name, make.tool(), compensate=undo, next=to(arc(f"{name}x", "nothing.more")))
            make.step(f"{name}x", make.tool())
        case _:
            make.step(name, {"kind": "wait", "signal": "never", "within": make.rng.choice((1, 7))})


def what_is_done_beside_it_is_undone(make: Maker) -> SidePlaybook:
    """Branches, of which one fails while others run, wait for their next attempt, or have a sub-playbook."""
    rng = make.rng
    path = f"{make.path}_child"
    child = Maker(rng, make.recipe, path)
    child.step("s0", _retried(make.tool(fail=1), 7))
    names = [f"b{index}" for index in range(rng.randint(1, 4))]
    make.step(
        "s0",
        make.tool(),
        compensate={"tool": make.tool("{{ s0.v }}")},
        next=to({"step": "fails"}, *({"step": name} for name in names), mode="inclusive"),
    )
    slow = make.tool(fail=9)
    slow["input"]["ms"] = rng.choice((1, 40, 900, 3000))
    make.step("fails", slow)
    for name in names:
        tool: dict[str, Any] = make.tool(fail=rng.choice((0, 0, 1)))
        tool["input"]["ms"] = rng.choice((1, 40, 900, 3000))
        more: dict[str, Any] = {}
        match rng.choice(("step", "loop", "call", "wait")):
            case "loop":
                spec = {"mode": "parallel", "max_in_flight": rng.choice((2, 8))}
                more["loop"] = {"in": "{{ range(9) | list }}", "iterator": "it", "spec": spec}
            case "call":
                tool = {"kind": "playbook", "path": path}
            case "wait":
                tool = {"kind": "wait", "for": rng.choice((0.5, 9))}
        if tool["kind"] == "python":
            tool = _retried(tool, rng.choice((0.1, 7)))
        undo = make.tool(f"{{{{ {name} | string | length }}}}", fail=rng.choice((0, 0, 9)))
        make.step(name, tool, compensate={"tool": undo}, next=to({"step": f"{name}x"}), **more)
        make.step(f"{name}x", make.tool())
    made = make.made(Promise("failed"), executor=_executor(make), more=((path, playbook(path, child.steps)),))
    return replace(made, controls=_with_pauses(make))


def what_is_out_of_time_is_undone(make: Maker) -> SidePlaybook:
    """It has something to undo, and waits for what never comes."""
    make.step("s0", make.tool(), compensate={"tool": make.tool("{{ s0.v }}")}, next=to({"step": "s1"}))
    make.step("s1", {"kind": "wait", "signal": "never"}, compensate={"tool": make.tool()})
    undone = {"done": ["s0"], "failed": []}
    promise = Promise("failed", None, ("execution.timeout",), undone=undone)
    made = make.made(promise, executor=_executor(make, timeout=make.rng.choice((9, 90))))
    return replace(made, controls=_with_pauses(make))


# -- what goes on


def a_step_is_mended(make: Maker) -> SidePlaybook:
    """It fails, and is gone on with by one that does not: what was done before is not done again."""
    rng = make.rng
    make.step("s0", make.tool(pad=rng.choice((0, 90))), set={"ctx.n": "{{ output.data.v }}"}, next=to({"step": "s1"}))
    loop = {"in": "{{ range(5) | list }}", "iterator": "it", "spec": {"mode": "parallel", "max_in_flight": 3}}
    tool = make.tool("{{ iter.it }}", i="{{ iter._index }}")
    make.step("s1", tool, loop=loop, next=to({"step": "s2"}, {"step": "s3"}, mode="inclusive"))
    make.step("s2", make.tool("{{ ctx.n }}", fail="{{ workload.fail }}"), next=to({"step": "s4"}))
    make.step("s3", make.tool("{{ s1.results }}"), next=to({"step": "s4"}))
    make.step("s4", make.tool("{{ [s0.v, s2.v, s3.v] }}"))
    workload, executor = {"fail": 9}, _executor(make)
    made = make.made(Promise("failed", "s2", ("scripted",)), workload=workload, executor=executor)
    found = predict(read(made.text), {"label": made.label, "fail": 0}, lambda call: _answer(call, {}))
    data = {name: {"v": found.outcomes[name].data["v"]} for name in ("s2", "s3", "s4")}
    restarted = Promise(found.status, ctx=found.ctx, data=data, begun={"s0": 0, "s1": 0})
    return replace(made, restarted=restarted, changes={"fail": 0}, controls=_with_pauses(make))


# -- what starts it


def webhooks_start_it(make: Maker) -> SidePlaybook:
    """Each event one execution, and the end of each one execution of another playbook."""
    rng, path = make.rng, make.path
    make.step("s0", make.tool("{{ workload.n }}", fail="{{ workload.fail }}"))
    hook = {
        "name": "hook",
        "kind": "webhook",
        "auth": "shop",
        "when": "{{ event.data.n >= 0 }}",
        "input": {"n": "{{ event.data.n }}", "fail": "{{ event.data.fail }}"},
    }
    made = make.made(Promise(None), workload={"n": 0, "fail": 0}, triggers=[hook])
    after = {"name": "after", "kind": "playbook", "path": path, "input": {"n": "{{ event.data.execution_id }}"}}
    after["statuses"] = ["completed", "failed"]
    other = Maker(rng, make.recipe, f"{path}_after")
    other.step("s0", make.tool("{{ workload.n }}"))
    text = playbook(other.path, other.steps, {"n": 0}, triggers=[after])
    deliveries = tuple(
        Delivery(rng.random() * 20, f"{path}/hook", f"m{n}", {"n": n - 1, "fail": rng.choice((0, 9))}, starts=n > 0)
        for n in range(rng.choice((1, 3, 6)))
    )
    return replace(made, more=((other.path, text),), deliveries=deliveries)


# -- the oracle


def _predicted(make: Maker, fields: Mapping[str, str], signals: Mapping[str, Sequence[Any]] = {}) -> SidePlaybook:
    """As the oracle says that it ends; `fields`: of the results of steps, those to look at; `signals`: what is sent."""
    made = make.made(Promise(None), executor=_executor(make))
    kept = {name: deque(data) for name, data in signals.items()}
    found = predict(read(made.text), {"label": made.label}, lambda call: _answer(call, kept))
    error = found.error or {}
    data = {step: {name: found.outcomes[step].data[name]} for step, name in fields.items()}
    promise = Promise(
        found.status,
        error.get("step"),
        (error["code"],) if error else (),
        ctx=found.ctx,
        data=data,
        undone=error.get("compensation"),
    )
    return replace(made, promise=promise)


def _answer(call: Call, signals: Mapping[str, deque[Any]]) -> Outcome:
    if call.kind == "wait":
        return _waited(call.config, signals)
    arguments = {name: value for name, value in call.input.items() if name != "ms"}
    data, error = answer_to(call.task, arguments, call.attempt)
    return Outcome("error", error=error) if error else Outcome("ok", data=data)


def _waited(config: Mapping[str, Any], signals: Mapping[str, deque[Any]]) -> Outcome:
    name = config.get("signal") or config.get("approval")
    if name is None:
        return Outcome("ok")
    if not signals.get(name):
        return Outcome("error", error={"code": "wait.timeout"})
    data = signals[name].popleft()
    if "approval" in config and not data["approved"]:
        return Outcome("error", data=data, error={"code": "wait.rejected"})
    return Outcome("ok", data=data)


RECIPES: tuple[tuple[int, Callable[[Maker], SidePlaybook]], ...] = (
    (4, signals_are_waited_for),
    (3, times_are_waited_for),
    (4, what_is_done_is_undone),
    (3, what_is_done_beside_it_is_undone),
    (1, what_is_out_of_time_is_undone),
    (3, a_step_is_mended),
    (3, webhooks_start_it),
)
