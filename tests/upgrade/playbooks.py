"""What runs while the release changes: every construct that leaves something in the store, each with a gate in its
midst, so that it is under way until the phase begins that is to end it.

Each says how it ends and which effects it has: a call of `effect` is counted by our own server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests import constructs
from tests.constructs import (
    BY_TIMER,
    FORGIVING,
    LARGE,
    add_one,
    admitting,
    arcs,
    at_once,
    call,
    in_order,
    many_children,
    on_error,
    one_more,
    python,
    step,
    wrong,
)

from .kind import IN_THE_WORKER, PASS_ON, Kind, both, effect, gate, playbook

# of a wait that only a cancellation ends
LONG = 600.0
CREDENTIAL = "upgrade-door"
SECRET = {"username": "guard", "password": "open-sesame"}


def _each(count: int, name: str = "item") -> tuple[str, ...]:
    return tuple(f"{name}-{index}" for index in range(count))


def _chain(name: str, before: int, after: int, **spec: Any) -> Kind:
    steps = [step("s0", effect("first"), "s1")]
    last = "workload.n"
    for index in range(1, before + after + 1):
        if index == before + 1:
            steps.append(step("wait", gate(IN_THE_WORKER), f"s{index}"))
        following = "wait" if index == before else f"s{index + 1}" if index < before + after else "end"
        steps.append(step(f"s{index}", add_one(f"{{{{ {last} }}}}"), following))
        last = f"s{index}.n"
    steps.append(step("end", effect("last"), "sum"))
    steps.append(step("sum", python("result = {'n': n}", n=f"{{{{ {last} }}}}")))
    return Kind(name, (playbook(name, *steps, **spec),), ("first", "last"), lambda n: {"n": n + before + after})


CHAIN = _chain("chain", 3, 4)
# its worker runs ahead of what is durable: the wire carries whole states
PIPELINED = _chain("pipelined", 8, 12, durability="pipelined")

# the scope of its items is the same for all of them, `ctx` with it
FAN_OUT = Kind(
    "fan_out",
    (
        playbook(
            "fan_out",
            step("mark", {"kind": "noop"}, "every", set={"ctx.mark": "{{ 'item' }}"}),
            step(
                "every",
                both(gate(IN_THE_WORKER), effect("{{ ctx.mark }}-{{ iter.n }}")),
                "sum",
                loop=at_once("range(12)|list", 4),
            ),
            step("sum", python("result = {'count': len(all)}", all="{{ every.results }}")),
        ),
    ),
    _each(12),
    lambda n: {"count": 12},
)

# each of its items sets what the next reads
GROWING = Kind(
    "growing",
    (
        playbook(
            "growing",
            step("begin", {"kind": "noop"}, "every", set={"ctx.sum": "{{ 0 }}"}),
            step(
                "every",
                [
                    {"name": "wait", **gate(IN_THE_WORKER)},
                    {"name": "act", **effect("sum-{{ ctx.sum }}")},
                    {
                        "name": "add",
                        **python("result = {'sum': sum + n + 1}", sum="{{ ctx.sum }}", n="{{ iter.n }}"),
                        "spec": {
                            "policy": {
                                "rules": [
                                    {"else": {"then": {"do": "continue", "set": {"ctx.sum": "{{ output.data.sum }}"}}}}
                                ]
                            }
                        },
                    },
                ],
                "say",
                loop=in_order("range(3)|list"),
            ),
            step("say", python("result = {'sum': sum}", sum="{{ ctx.sum }}")),
        ),
    ),
    ("sum-0", "sum-1", "sum-3"),
    lambda n: {"sum": 6},
)

# its frames are handed back to timers
FAN_OUT_BY_TIMER = Kind(
    "fan_out_by_timer",
    (
        playbook(
            "fan_out_by_timer",
            step("every", both(gate(BY_TIMER), effect("item-{{ iter.n }}")), "sum", loop=at_once("range(4)|list", 4)),
            step("sum", python("result = {'count': len(all)}", all="{{ every.results }}")),
        ),
    ),
    _each(4),
    lambda n: {"count": 4},
)

IN_ORDER = Kind(
    "in_order",
    (
        playbook(
            "in_order",
            step(
                "every",
                both(gate(IN_THE_WORKER), effect("item-{{ iter.n }}"), python("result = n * n", n="{{ iter.n }}")),
                "sum",
                loop=in_order("range(5)|list"),
            ),
            step("sum", python("result = {'squares': [one['_prev'] for one in all]}", all="{{ every.results }}")),
        ),
    ),
    _each(5),
    lambda n: {"squares": [0, 1, 4, 9, 16]},
)

BEST_EFFORT = Kind(
    "best_effort",
    (
        playbook(
            "best_effort",
            step(
                "every",
                both(gate(BY_TIMER), python("result = {'third': 3 // n}", n="{{ iter.n }}")),
                "sum",
                loop=at_once("range(4)|list", 2),
                spec=FORGIVING,
            ),
            step("sum", python("result = {'failed': stats['failed']}", stats="{{ every.stats }}"), "end"),
            step("end", effect("last")),
        ),
    ),
    ("last",),
)

LEAF = playbook(
    "leaf",
    step("wait", gate(BY_TIMER), "act"),
    step("act", effect("leaf-{{ workload.item }}"), "say"),
    step("say", python("result = {'v': 2 * item}", item="{{ workload.item }}")),
)
BRANCH = playbook(
    "branch",
    *one_more("down", "up", call("upgrade/leaf", {**PASS_ON, "item": "{{ workload.item }}"})),
)
CHILDREN = Kind(
    "children",
    (
        LEAF,
        BRANCH,
        playbook(
            "children",
            *many_children(call("upgrade/branch", {**PASS_ON, "item": "{{ iter.n }}"}), "range(3)|list", 3),
        ),
    ),
    _each(3, "leaf"),
    lambda n: {"all": [1, 3, 5]},
)

# its child is given more than goes inline: whole by the one release, by reference by the other
GIVEN_MUCH = Kind(
    "given_much",
    (
        playbook(
            "much",
            step("wait", gate(BY_TIMER), "act"),
            step("act", effect("below"), "say"),
            step("say", python("result = {'v': len(text)}", text="{{ workload.text }}")),
        ),
        playbook(
            "given_much",
            step("make", python("result = {'text': 'x' * 100_000}"), "down"),
            step("down", call("upgrade/much", {**PASS_ON, "text": "{{ make.text }}"}), "up"),
            step("up", effect("up"), "say"),
            step("say", python("result = {'v': v}", v="{{ down.v }}")),
        ),
    ),
    ("below", "up"),
    lambda n: {"v": 100_000},
)

# so many events, while all the rest waits, that snapshots are written of it
MIXED = Kind(
    "mixed",
    (
        LEAF,
        playbook(
            "mixed",
            {
                **step("split", {"kind": "noop"}, set={"ctx.i": "{{ 0 }}"}),
                **arcs("inclusive", {"step": "child"}, {"step": "wait"}, {"step": "every"}, {"step": "turn"}),
            },
            step("child", call("upgrade/leaf", {**PASS_ON, "item": "{{ 7 }}"}), "join"),
            step("wait", gate(BY_TIMER), "late"),
            step("late", effect("late"), "join"),
            step("every", both(gate(BY_TIMER), effect("item-{{ iter.n }}")), "join", loop=at_once("range(5)|list", 3)),
            {
                **step("turn", add_one("{{ ctx.i }}"), set={"ctx.i": "{{ output.data.n }}"}),
                **arcs("exclusive", {"step": "turn", "when": "{{ ctx.i < 40 }}"}, {"step": "join"}),
            },
            step("join", effect("join"), "say"),
            step("say", python("result = {'i': i, 'v': v}", i="{{ ctx.i }}", v="{{ child.v }}")),
            budget={"max_billed_seconds": 36000, "max_cost_usd": 100},
        ),
    ),
    ("leaf-7", "late", *_each(5), "join"),
    lambda n: {"i": 40, "v": 14},
)

TIMER = Kind(
    "timer",
    (
        playbook(
            "timer",
            step("wait", gate(BY_TIMER), "act"),
            step("act", effect("late"), "say"),
            step("say", python("result = {'v': n}", n="{{ workload.n }}")),
        ),
    ),
    ("late",),
    lambda n: {"v": n},
)

TURNS = Kind(
    "turns",
    (
        playbook(
            "turns",
            step("begin", {"kind": "noop"}, "turn", set={"ctx.i": "{{ 0 }}", "ctx.seen": "{{ [] }}"}),
            {
                **step(
                    "turn",
                    both(effect("turn-{{ ctx.i }}"), python("result = {'i': i + 1}", i="{{ ctx.i }}")),
                    set={"ctx.i": "{{ output.data.i }}", "ctx.seen": "{{ ctx.seen + [ctx.i] }}"},
                ),
                **arcs(
                    "exclusive",
                    {"step": "wait", "when": "{{ ctx.i == 3 }}"},
                    {"step": "turn", "when": "{{ ctx.i < 6 }}"},
                    {"step": "end"},
                ),
            },
            step("wait", gate(IN_THE_WORKER), "turn"),
            step("end", python("result = {'i': i, 'turns': len(seen)}", i="{{ ctx.i }}", seen="{{ ctx.seen }}")),
        ),
    ),
    _each(6, "turn"),
    lambda n: {"i": 6, "turns": 6},
)

# results by reference: of a step and of the items of a loop, read by another release than wrote them
LARGE_RESULTS = Kind(
    "large",
    (
        playbook(
            "large",
            *constructs.large("str(n % 10)", "range(3)|list", "wait"),
            step("wait", gate(BY_TIMER), "more"),
            constructs.large_items("more", "range(3)|list", "count", "y"),
            step(
                "count",
                python(
                    "result = {'one': len(one), 'n': n, 'many': [len(item) for item in many + more]}",
                    one="{{ make.blob }}",
                    n="{{ make.n }}",
                    many="{{ many.results }}",
                    more="{{ more.results }}",
                ),
                "end",
            ),
            step("end", effect("last"), "say"),
            step("say", python("result = said", said="{{ count }}")),
        ),
    ),
    ("last",),
    lambda n: {"one": LARGE, "n": n, "many": [LARGE, LARGE + 1, LARGE + 2] * 2},
)

JOINS = Kind(
    "joins",
    (
        playbook(
            "joins",
            {
                **step("split", {"kind": "noop"}),
                **arcs("inclusive", {"step": "left"}, {"step": "right"}, {"step": "never", "when": "{{ false }}"}),
            },
            step("left", effect("left"), "join"),
            step("right", gate(BY_TIMER), "right_too"),
            step("right_too", effect("right"), "join"),
            step("never", effect("never"), "join"),
            step("join", effect("join"), "say"),
            step("say", python("result = {'never': status}", status="{{ never.status | default('none') }}")),
        ),
    ),
    ("left", "right", "join"),
)

ADMISSION = Kind(
    "admission",
    (
        playbook(
            "admission",
            step("wait", gate(BY_TIMER), "refused"),
            {
                **step("refused", effect("never"), spec=admitting({"else": {"then": {"allow": False}}})),
                "next": {"arcs": [{"step": "after", "when": "{{ event.name == 'step.skipped' }}"}]},
            },
            step("after", effect("after")),
        ),
    ),
    ("after",),
)

# the order of keys is that in which they were written, for whoever decides
ORDER = Kind(
    "order",
    (
        playbook(
            "order",
            step(
                "make",
                python("result = {'a': 1, 'b': 2, 'nested': {'a': [1, {'a': 1, 'b': 2}]}}"),
                "wait",
                set={"ctx.kept": "{{ output.data }}"},
            ),
            step("wait", gate(BY_TIMER), "after"),
            {
                **step("after", python("result = {'x': kept}", kept="{{ ctx.kept }}")),
                **arcs(
                    "exclusive",
                    {
                        "step": "right",
                        "when": "{{ (make.nested | list | first) == 'a' and output.data.x == ctx.kept }}",
                    },
                    {"step": "wrong"},
                ),
            },
            step("right", effect("right"), "say"),
            step("wrong", effect("wrong")),
            step("say", python("result = kept", kept="{{ ctx.kept }}")),
        ),
    ),
    ("right",),
    lambda n: {"a": 1, "b": 2, "nested": {"a": [1, {"a": 1, "b": 2}]}},
)

BUDGET = Kind(
    "budget",
    (
        playbook(
            "budget",
            step("one", effect("one"), "wait"),
            step("wait", gate(BY_TIMER), "two"),
            step("two", effect("two"), "three"),
            step("three", {"kind": "noop"}, "four"),
            step("four", effect("four")),
            # the attempts of the gate are of one command, timers and all: they count
            budget={"max_billed_seconds": 36000, "max_cost_usd": 100},
        ),
    ),
    ("one", "two", "four"),
)

GUARDED = Kind(
    "guarded",
    (
        playbook(
            "guarded",
            step("wait", gate(BY_TIMER), "knock"),
            step("knock", {**effect("guarded"), "auth": {"credential": CREDENTIAL, "type": "basic"}}),
        ),
    ),
    ("guarded",),
)

FAILS = Kind(
    "fails",
    (
        playbook(
            "fails",
            step("before", effect("before"), "wait"),
            step("wait", gate(BY_TIMER), "wrong"),
            wrong("never"),
            step("never", effect("never")),
        ),
    ),
    ("before",),
    end="FAILED",
    error="python.exception",
)

RECOVERS = Kind(
    "recovers",
    (
        playbook(
            "recovers",
            step("wait", gate(BY_TIMER), "wrong"),
            {
                **step("wrong", python("raise ValueError('wrong')")),
                **on_error("mend", "never"),
            },
            step("never", effect("never")),
            step("mend", effect("mend")),
        ),
    ),
    ("mend",),
)

WAITS = playbook("waits", step("wait", gate(LONG, "never"), "never"), step("never", effect("never")))
CANCELLED = Kind(
    "cancelled",
    (
        WAITS,
        playbook(
            "cancelled",
            {**step("split", effect("first")), **arcs("inclusive", {"step": "child"}, {"step": "here"})},
            step("child", call("upgrade/waits", PASS_ON), "never"),
            step("here", gate(BY_TIMER, "never"), "never"),
            step("never", effect("never")),
        ),
    ),
    ("first",),
    end="CANCELLED",
)

# its work is never done by a worker: whoever claims it in a worker's name reports it, early, late or never
HELD = Kind(
    "held",
    (
        playbook(
            "held",
            step("work", python("raise RuntimeError('a worker ran what was not for it')"), "after"),
            step("after", effect("after"), "say"),
            step("say", python("result = {'v': v}", v="{{ work.v }}")),
        ),
    ),
    ("after",),
    lambda n: {"v": n},
)
HELD_CHILD = playbook("held_child", step("work", python("raise RuntimeError('a worker ran what was not for it')")))
PARENT_OF_HELD = Kind(
    "parent_of_held",
    (
        HELD_CHILD,
        playbook(
            "parent_of_held",
            step("down", call("upgrade/held_child", PASS_ON), "up"),
            step("up", effect("up"), "say"),
            step("say", python("result = {'v': v}", v="{{ down.v }}")),
        ),
    ),
    ("up",),
    lambda n: {"v": n},
)
# given up after so many deliveries
POISONED = Kind("poisoned", HELD.texts, (), end="FAILED", error="command.delivery_limit")

TICK = playbook("tick", step("tick", python("result = {'n': n}", n="{{ workload.n }}")))

KINDS: Sequence[Kind] = (
    CHAIN,
    PIPELINED,
    FAN_OUT,
    GROWING,
    FAN_OUT_BY_TIMER,
    IN_ORDER,
    BEST_EFFORT,
    CHILDREN,
    MIXED,
    TIMER,
    TURNS,
    LARGE_RESULTS,
    JOINS,
    ADMISSION,
    ORDER,
    BUDGET,
    GUARDED,
    FAILS,
    RECOVERS,
    CANCELLED,
    GIVEN_MUCH,
)
# what the release before does not run, or not so: it sets no more than 64 KiB
SETS_MUCH = Kind(
    "sets_much",
    (
        playbook(
            "sets_much",
            step(
                "make",
                {
                    **python("result = {'text': 'x' * 100_000}"),
                    "spec": {
                        "policy": {
                            "rules": [
                                {"else": {"then": {"do": "continue", "set": {"ctx.text": "{{ output.data.text }}"}}}}
                            ]
                        }
                    },
                },
                "wait",
                set={"ctx.all": "{{ make }}"},
            ),
            step("wait", gate(BY_TIMER), "each"),
            step(
                "each",
                python("result = len(text)", text="{{ ctx.text }}"),
                "say",
                loop={"in": "{{ [1, 2] }}", "iterator": "n"},
            ),
            step("say", python("result = {'v': len(text)}", text="{{ ctx.all.text }}")),
        ),
    ),
    (),
    lambda n: {"v": 100_000},
)
# it does not say which of its items has set what, and takes the last to be reported
ITEMS_SET = Kind(
    "items_set",
    (
        playbook(
            "items_set",
            constructs.items_that_set("each", "range(9) | list", "wait"),
            step("wait", gate(BY_TIMER), "say"),
            step("say", python("result = {'last': last, 'all': all}", last="{{ ctx.last }}", all="{{ each }}")),
        ),
    ),
    (),
    lambda n: {"last": 8, "all": list(range(9))},
)
# it knows no time of a step as a whole
STEP_TIMES_OUT = Kind(
    "step_times_out",
    (
        playbook(
            "step_times_out",
            {
                **step(
                    "hang",
                    {
                        **python("result = 1"),
                        "spec": {
                            "policy": {"rules": [{"when": True, "then": {"do": "retry", "attempts": 9, "delay": "1h"}}]}
                        },
                    },
                ),
                "spec": {"policy": {"lifecycle": {"timeout": 0.5}}},
                **arcs("exclusive", {"step": "wait", "when": "{{ event.name == 'step.failed' }}"}),
            },
            step("wait", gate(BY_TIMER), "say"),
            step("say", python("result = {'why': why}", why="{{ hang.error.code }}")),
        ),
    ),
    (),
    lambda n: {"why": "step.timeout"},
)
# it knows no waits, compensation or limits
COMPENSATES = Kind(
    "compensates",
    (
        playbook(
            "compensates",
            {
                **step("reserve", python("result = {'n': n}", n="{{ workload.n }}"), "nap"),
                "spec": {"concurrency": {"key": "upgrade", "limit": 2}, "rate": {"per": "1s", "limit": 50}},
                "compensate": {"tool": effect("released")},
            },
            step("nap", {"kind": "wait", "for": 0.2}, "ask"),
            {
                **step("ask", {"kind": "wait", "approval": "manager", "within": 0.5}),
                **arcs("exclusive", {"step": "gate", "when": "{{ event.name == 'step.failed' }}"}),
            },
            step("gate", gate(BY_TIMER), "ship"),
            step("ship", python("raise ValueError('no carrier')")),
        ),
    ),
    ("released",),
    end="FAILED",
    error="python.exception",
)
NEWER = (SETS_MUCH, ITEMS_SET, STEP_TIMES_OUT, COMPENSATES)
BY_NAME = {kind.name: kind for kind in (*KINDS, *NEWER, HELD, PARENT_OF_HELD, POISONED)}
TEXTS = tuple(dict.fromkeys([*(text for kind in BY_NAME.values() for text in kind.texts), TICK]))
