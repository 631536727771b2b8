"""Playbooks that hurt, to run beside the others: whatever they do, the others end as they would without them.

Each is a chain or a small cycle, so that it too ends in one way only: as it promises (`Promise`), found out from the
rules of the language and not from the engine.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from noetl_serverless.engine import events as e

from . import edge_values
from .side_playbooks import FAILED, KB, Maker, Promise, SidePlaybook, arc, playbook, to
from .tasks import LEAF


def faulty_playbook(rng: random.Random, number: int) -> SidePlaybook:
    weights = [weight for weight, _ in RECIPES]
    (_, recipe) = rng.choices(RECIPES, weights)[0]
    return recipe(Maker(rng, recipe.__name__, f"sim/poison{number}"))


# -- recipes


def a_tool_yields(make: Maker) -> SidePlaybook:
    """Refused at the step; what follows reads it, or mends the step."""
    huge = make.rng.random() < 0.002
    value = edge_values.HUGE if huge else make.rng.choice(list(edge_values.YIELDED.values()))
    mended = make.rng.random() < 0.4
    first = make.step("s0", make.tool(give=value.name))
    first["next"] = to(*([arc("mend", FAILED)] if mended else []), arc("s1"))
    make.step("s1", make.tool("{{ s0.v }}"))
    if mended:
        make.step("mend", make.tool("{{ s0.error.message | default('') | length > 0 }}"))
    if value.rule is None:
        data = {} if huge else {"s0": {"w": value.form()}}
        return make.made(Promise("completed", data=data))
    if mended:
        return make.made(Promise("completed", begun={"s1": 0, "mend": 1}))
    return make.made(Promise("failed", "s0", (value.rule, _place("w", value.place))))


def an_item_yields(make: Maker) -> SidePlaybook:
    """One item of a loop of good ones."""
    value = make.rng.choice(list(edge_values.YIELDED.values()))
    best_effort = make.rng.random() < 0.5
    bad = make.rng.randrange(5)
    give = f"{{{{ '{value.name}' if iter._index == {bad} else '' }}}}"
    policy = {"spec": {"policy": {"failure": {"mode": "best_effort"}}}} if best_effort else {}
    spec = make.rng.choice(({"mode": "parallel", "max_in_flight": 2}, {"mode": "sequential"}))
    loop = {"in": "{{ range(5) | list }}", "iterator": "it", "spec": spec}
    tool = make.tool("{{ iter.it }}", give=give, i="{{ iter._index }}")
    make.step("s0", tool, loop=loop, next=to(arc("s1")), **policy)
    make.step("s1", make.tool("{{ s0.stats | default('') }}"))
    if value.rule is None or best_effort:
        return make.made(Promise("completed"))
    return make.made(Promise("failed", "s0", (value.rule,)))


def a_template_makes(make: Maker) -> SidePlaybook:
    """In `set` of a step or an arc, in a loop, in a rule of a task, in what a sub-playbook is started with."""
    expression, rule, more = make.rng.choice(edge_values.MADE)
    where = make.rng.choice(("set", "set", "arc", "loop", "rule", "payload", "deep"))
    whole = f"{{{{ {expression} }}}}"
    again = make.rng.random() < 0.5
    place = _place("", more) if rule is not None else ""
    ctx = {} if more is ... or rule is not None else {"bad": more}
    match where:
        case "set" | "deep":
            value = {"a": [whole]} if where == "deep" else whole
            make.step("s0", make.tool(), set={"ctx.bad": value}, next=to(arc("s1")))
            if where == "deep":
                ctx = {"bad": {"a": [more]}} if ctx else {}
        case "arc":
            make.step("s0", make.tool(), next=to(arc("s1", set={"ctx.bad": whole})))
        case "loop":
            loop = {"in": f"{{{{ [{expression}] }}}}", "iterator": "it", "spec": {"mode": "sequential"}}
            make.step("s0", make.tool("{{ iter.it | string | length }}"), loop=loop, next=to(arc("s1")))
            ctx = {}
        case "rule":
            tool = make.tool()
            then = {"do": "continue", "set": {"ctx.bad": whole}}
            tool["spec"] = {"policy": {"rules": [{"else": {"then": then}}]}}
            make.step("s0", tool, next=to(arc("s1")))
        case _:
            payload = {"x": whole}
            make.step("s0", {"kind": "playbook", "path": LEAF, "payload": payload}, next=to(arc("s1")))
            ctx = {}
    make.step("s1", make.tool("{{ ctx.bad | default(0) }}" if again else ""))
    if rule is not None:
        return make.made(Promise("failed", "s0", (rule, place)))
    # what a leaf makes of it is its own matter
    return make.made(Promise("completed" if where != "payload" else None, ctx=ctx))


def a_child_gives_a_large_number(make: Maker) -> SidePlaybook:
    """The parent reckons with it when the child has ended, in the follow-up of somebody else's commit."""
    factor, rule = make.rng.choice(((1, None), (10**6, None), (10**12, edge_values.BITS), (10**300, edge_values.BITS)))
    base = Maker(make.rng, make.recipe, f"{make.path}/child")
    base.step("s0", make.tool(give="large"))
    child = playbook(base.path, base.steps)
    mended = make.rng.random() < 0.3
    arcs = [arc("mend", FAILED)] if mended else []
    make.step(
        "s0",
        {"kind": "playbook", "path": base.path, "payload": {}},
        set={"ctx.total": f"{{{{ output.data.w * {factor} }}}}"},
        next=to(*arcs, arc("s1")),
    )
    make.step("s1", make.tool("{{ ctx.total }}"))
    if mended:
        make.step("mend", make.tool())
    more = ((base.path, child),)
    if rule is not None:
        return make.made(Promise("failed", "s0", (rule,)), more=more)
    return make.made(Promise("completed", ctx={"total": 10**9 * factor}), more=more)


def order_decides(make: Maker) -> SidePlaybook:
    """What comes first in an object leads the way; whoever has it in another order goes elsewhere."""
    keys = make.rng.sample(["winner", "a", "zz", "10", "9", "B"], 4)
    kind = make.rng.choice(("data", "ctx", "integers", "child", "loop"))
    first = keys[0]
    more: tuple[tuple[str, str], ...] = ()
    ctx: dict[str, Any] = {}
    listed = ",".join(keys)
    match kind:
        case "data":
            make.step("s0", make.tool(give=f"order:{listed}"))
            condition = "s0.w"
        case "ctx":
            table = ", ".join(f"'{key}': {index}" for index, key in enumerate(keys))
            make.step("s0", make.tool(), set={"ctx.d": f"{{{{ {{{table}}} }}}}"})
            condition, ctx = "ctx.d", {"d": {key: index for index, key in enumerate(keys)}}
        case "integers":
            numbers = make.rng.sample(range(20), 4)
            first = str(numbers[0])
            table = ", ".join(f"{number}: 'x'" for number in numbers)
            make.step("s0", make.tool(), set={"ctx.d": f"{{{{ {{{table}}} }}}}"})
            condition, ctx = "ctx.d", {"d": {str(number): "x" for number in numbers}}
        case "child":
            base = Maker(make.rng, make.recipe, f"{make.path}/child")
            base.step("s0", make.tool(give=f"order:{listed}"))
            more = ((base.path, playbook(base.path, base.steps)),)
            make.step("s0", {"kind": "playbook", "path": base.path, "payload": {}})
            condition = "s0.w"
        case _:
            make.step("ask", make.tool(give=f"order:{listed}"), next=to(arc("s0")))
            spec = {"in": "{{ ask.w | list }}", "iterator": "it", "spec": {"mode": "sequential"}}
            make.step("s0", make.tool("{{ iter.it }}"), loop=spec, set={"ctx.d": "{{ ask.w }}"})
            condition, ctx = "ctx.d", {"d": {key: index for index, key in enumerate(keys)}}
    start = make.steps[-1]
    # in two commits more, so that other copies of the state come to decide
    found = f"{{{{ {condition} | list | first }}}}"
    make.step("on", make.tool(found), set={"ctx.first": found})
    start["next"] = to(arc("on"))
    make.steps[-1]["next"] = to(arc("left", f"({condition} | list | first) == '{first}'"), arc("right"))
    make.step("left", make.tool(f"{{{{ {condition} }}}}"))
    make.step("right", make.tool())
    return make.made(Promise("completed", ctx={**ctx, "first": first}, begun={"left": 1, "right": 0}), more=more)


def a_loop_of_nothing_turns(make: Maker) -> SidePlaybook:
    turns = make.rng.choice((30, 90, 150, 500))
    loop = {"in": "{{ [] }}", "iterator": "it", "spec": {"mode": make.rng.choice(("parallel", "sequential"))}}
    make.step("s0", make.tool(), next=to(arc("s1")))
    count = {"ctx.n": "{{ ctx.n | default(0) + 1 }}"}
    make.step("s1", make.tool(), loop=loop, set=count, next=to(arc("s1", f"ctx.n < {turns}"), arc("s2")))
    make.step("s2", make.tool("{{ ctx.n }}"))
    return make.made(Promise("completed", ctx={"n": turns}, begun={"s1": turns, "s2": 1}))


def a_step_not_admitted_turns(make: Maker) -> SidePlaybook:
    """Nothing is run either, and the step before it begins again each time."""
    turns = make.rng.choice((30, 150))
    closed = {"policy": {"admit": {"rules": [{"else": {"then": {"allow": False}}}]}}}
    make.step("s0", make.tool(), set={"ctx.n": 0}, next=to(arc("s1")))
    back = arc("s1", f"event.name == 'step.skipped' and ctx.n < {turns}", set={"ctx.n": "{{ ctx.n + 1 }}"})
    make.step("s1", make.tool(), spec=closed, next=to(back, arc("s2", "event.name == 'step.skipped'")))
    make.step("s2", make.tool("{{ ctx.n }}"))
    return make.made(Promise("completed", ctx={"n": turns}, begun={"s1": turns + 1, "s2": 1}))


def nesting_grows(make: Maker) -> SidePlaybook:
    """A level more with each turn, until it is one too many."""
    turns, deep = make.rng.choice(((60, False), (120, False), (140, True)))
    loop = {"in": "{{ [] }}", "iterator": "it", "spec": {"mode": "sequential"}}
    count = {"ctx.n": "{{ ctx.n | default(0) + 1 }}", "ctx.d": "{{ [ctx.d | default(0)] }}"}
    make.step("s0", make.tool(), next=to(arc("s1")))
    make.step("s1", make.tool(), loop=loop, set=count, next=to(arc("s1", f"ctx.n < {turns}"), arc("s2")))
    make.step("s2", make.tool("{{ ctx.d }}"))
    if deep:
        return make.made(Promise("failed", "s1", (edge_values.DEPTH,)))
    return make.made(Promise("completed", begun={"s2": 1}))


def a_loop_reads_much(make: Maker) -> SidePlaybook:
    """Each of its frames does; the log has it once, not once for each."""
    loop = {"in": "{{ range(24) | list }}", "iterator": "it", "spec": {"mode": "parallel", "max_in_flight": 2}}
    make.step("s0", make.tool(), set={"ctx.big": "{{ 'x' * 50000 }}"}, next=to(arc("s1")))
    tool = make.tool("{{ ctx.big | length }}", i="{{ iter._index }}")
    tool["input"]["ms"] = 2000
    make.step("s1", tool, loop=loop, next=to(arc("s2")))
    make.step("s2", make.tool())
    return make.made(Promise("completed", bytes=600 * KB))


def ctx_accumulates(make: Maker) -> SidePlaybook:
    """The more of it there is, the more each turn writes: it is refused by its limit, or its log stays small."""
    turns = 30
    loop = {"in": "{{ [] }}", "iterator": "it", "spec": {"mode": "sequential"}}
    grow = {"ctx.n": "{{ ctx.n | default(0) + 1 }}", "ctx.all": "{{ (ctx.all | default([])) + ['x' * 5000] }}"}
    make.step("s0", make.tool(), next=to(arc("s1")))
    make.step("s1", make.tool(), loop=loop, set=grow, next=to(arc("s1", f"ctx.n < {turns}"), arc("s2")))
    make.step("s2", make.tool("{{ ctx.all | length }}"))
    return make.made(Promise("failed", "s1", ("ctx.all",), bytes=2_000 * KB))


def two_branches_lead_back(make: Maker) -> SidePlaybook:
    """To one header: each round begins it once, whatever the number of branches."""
    rounds, branches = make.rng.choice(((3, 2), (5, 2), (6, 2), (3, 3)))
    names = [f"b{index}" for index in range(branches)]
    count = {"ctx.n": "{{ ctx.n | default(0) + 1 }}"}
    make.step("s0", make.tool(), set=count, next=to(*(arc(name) for name in names), mode="inclusive"))
    for name in names:
        make.step(name, make.tool("{{ ctx.n }}"), next=to(arc("s0", f"ctx.n < {rounds}"), arc("end")))
    make.step("end", make.tool())
    # a branch may come back after the round has gone on: then it begins the next, and no more than one each
    most = rounds + branches
    return make.made(Promise("completed", begun={"s0": most, **dict.fromkeys(names, most)}))


def a_condition_raises_on_a_failure(make: Maker) -> SidePlaybook:
    """The tool's own error is what counts."""
    make.step("s0", make.tool(fail=9), next=to(arc("s1", f"{FAILED} and output.data.nothing.more > 1"), arc("s2")))
    make.step("s1", make.tool())
    make.step("s2", make.tool())
    return make.made(Promise("failed", "s0", ("as asked",), begun={"s1": 0, "s2": 0}))


def a_condition_asks_about_the_run(make: Maker) -> SidePlaybook:
    """Not about the failure: a step that failed is not mended by it."""
    condition = make.rng.choice(("output.meta.attempt >= 0", "output.meta.attempt == 1", "output.meta"))
    make.step("s0", make.tool(fail=9), next=to(arc("s1", condition)))
    make.step("s1", make.tool())
    return make.made(Promise("failed", "s0", ("as asked",), begun={"s1": 0}))


def an_envelope_is_spoiled(make: Maker) -> SidePlaybook:
    """Not the result: what stands beside it, or the error."""
    part = make.rng.choice(("error", "extra", "meta"))
    value = make.rng.choice([value for value in edge_values.YIELDED.values() if value.rule is not None])
    mended = make.rng.random() < 0.3
    first = make.step("s0", make.tool(give=value.name, into=part))
    first["next"] = to(*([arc("s1", FAILED)] if mended else []), arc("s1"))
    make.step("s1", make.tool())
    if mended:
        return make.made(Promise("completed", begun={"s1": 1}))
    if part == "error":
        return make.made(Promise("failed", "s0"))
    # refused, or left out: either is told the same by every copy
    return make.made(Promise(None))


def a_body_is_odd(make: Maker) -> SidePlaybook:
    """Refused as a whole, or taken as it is."""
    body, refused = make.rng.choice(edge_values.BODIES)
    make.step("s0", make.tool("{{ workload.v | default(0) }}"), set={"ctx.seen": "{{ workload.v | default(0) }}"})
    return make.made(Promise("completed"), body=body, refused=refused)


def a_schedule_cannot_begin(make: Maker) -> SidePlaybook:
    """It fails where it is started, by the reconciler, and leaves the other schedules to themselves."""
    loop = {"in": "{{ [2 ** 70] }}", "iterator": "it", "spec": {"mode": "sequential"}}
    make.step("s0", make.tool("{{ iter.it }}"), loop=loop)
    return make.made(Promise("failed", "s0", (edge_values.BITS,)), by_schedule=True)


def it_is_resumed_into(make: Maker) -> SidePlaybook:
    """After a timer that the reconciler fires."""
    expression, rule, _ = make.rng.choice([made for made in edge_values.MADE if made[1] is not None])
    tool = make.tool(fail=1)
    then = {"do": "retry", "attempts": 2, "delay": 7, "backoff": "fixed"}
    tool["spec"] = {"policy": {"rules": [{"when": "{{ output.status == 'error' }}", "then": then}]}}
    make.step("s0", tool, set={"ctx.bad": f"{{{{ {expression} }}}}"}, next=to(arc("s1")))
    make.step("s1", make.tool())
    return make.made(Promise("failed", "s0", (rule or "",)))


def nothing_can_be_decided(make: Maker) -> SidePlaybook:
    """A fault of the engine's own strikes one of its facts, wherever that is taken in."""
    kind = make.rng.choice((e.STARTED, e.CALL_DONE, e.CHILD_ENDED, e.CHILD_ENDED, e.TIMER_FIRED, e.FRAME_COMMITTED))
    match kind:
        case e.CHILD_ENDED:
            make.step("s0", {"kind": "playbook", "path": LEAF, "payload": {}})
        case e.TIMER_FIRED:
            tool = make.tool(fail=1)
            then = {"do": "retry", "attempts": 2, "delay": 7, "backoff": "fixed"}
            tool["spec"] = {"policy": {"rules": [{"when": "{{ output.status == 'error' }}", "then": then}]}}
            make.step("s0", tool)
        case e.FRAME_COMMITTED:
            loop = {"in": "{{ range(4) | list }}", "iterator": "it", "spec": {"mode": "sequential"}}
            make.step("s0", make.tool("{{ iter.it }}"), loop=loop)
        case _:
            make.step("s0", make.tool())
    make.steps[-1]["next"] = to(arc("s1"))
    make.step("s1", make.tool())
    words = (e.UNDECIDABLE, "planted", kind)
    return make.made(Promise("failed", None, words, begun={"s1": 0}), undecidable=kind)


def _place(prefix: str, path: str) -> str:
    if not path:
        return prefix
    return f"{prefix}{path}" if path.startswith("[") or not prefix else f"{prefix}.{path}"


RECIPES: tuple[tuple[int, Callable[[Maker], SidePlaybook]], ...] = (
    (8, a_tool_yields),
    (4, an_item_yields),
    (8, a_template_makes),
    (4, a_child_gives_a_large_number),
    (6, order_decides),
    (2, a_loop_of_nothing_turns),
    (1, a_step_not_admitted_turns),
    (1, nesting_grows),
    (1, a_loop_reads_much),
    (1, ctx_accumulates),
    (2, two_branches_lead_back),
    (2, a_condition_raises_on_a_failure),
    (2, a_condition_asks_about_the_run),
    (3, an_envelope_is_spoiled),
    (3, a_body_is_odd),
    (2, a_schedule_cannot_begin),
    (2, it_is_resumed_into),
    (4, nothing_can_be_decided),
)
