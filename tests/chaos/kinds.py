"""What is run: playbooks of every construct, each with the result that it must have, whatever happened on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests import constructs
from tests.constructs import (
    BY_TIMER,
    FORGIVING,
    LARGE,
    PATIENT,
    RETRY,
    Step,
    add_one,
    admitting,
    arcs,
    at_once,
    call,
    document,
    in_order,
    many_children,
    on_error,
    one_more,
    python,
    step,
    twice,
    wrong,
)

LONG_WAIT = 600
# the users' own database, and what their secret is called: credentials of these names
DATABASE, CLIENT = "chaos_jobs", "chaos_client"


@dataclass(frozen=True, slots=True)
class Kind:
    """`payload` of the number of an execution. What it must come to the oracle says; `result`, where there is one, is
    the same thought out by hand, to keep the oracle honest.

    `weight`: how many of it to start beside the others. `texts`: what must be registered for it. `endless`: it goes on
    until somebody cancels it. `effects`: it calls the server of effects, whose address is in its payload. `claims`: the
    rows that its loop claims.
    """

    name: str
    texts: tuple[str, ...]
    payload: Callable[[int], dict[str, Any]]
    result: Callable[[dict[str, Any]], Any] | None = None
    weight: int = 4
    endless: bool = False
    effects: bool = False
    claims: Callable[[Mapping[str, Any]], list[Any]] | None = None

    @property
    def path(self) -> str:
        return f"chaos/{self.name}"


def playbook(
    name: str,
    steps: list[Step],
    workload: dict[str, Any] | None = None,
    keychain: list[dict[str, Any]] | None = None,
    **spec: Any,
) -> str:
    return document("chaos", name, steps, workload or {}, spec, keychain)


def _n(number: int) -> dict[str, Any]:
    return {"n": number % 1000}


def _chain(name: str, length: int, durability: str = "step") -> str:
    """Each step adds one."""
    steps = []
    for index in range(1, length + 1):
        given = "{{ workload.n }}" if index == 1 else f"{{{{ s{index - 1}.n }}}}"
        following = (f"s{index + 1}",) if index < length else ()
        steps.append(step(f"s{index}", add_one(given), *following))
    return playbook(name, steps, {"n": 0}, durability=durability)


CHAIN = Kind("chain", (_chain("chain", 10),), _n, lambda given: {"n": given["n"] + 10}, weight=6)
PIPELINED = Kind(
    "pipelined", (_chain("pipelined", 40, "pipelined"),), _n, lambda given: {"n": given["n"] + 40}, weight=5
)


def _again(when: str, delay: float) -> dict[str, Any]:
    """Also comes again while `when` holds."""
    return constructs.again({"when": when, "then": {**RETRY, "delay": delay}})


PIPELINE = Kind(
    "pipeline",
    (
        playbook(
            "pipeline",
            [
                step(
                    "work",
                    [
                        {
                            "name": "read",
                            **python(
                                "result = {'rows': [n, n + 1], 'try': attempt}", n="{{ n }}", attempt="{{ _attempt }}"
                            ),
                            "spec": _again("{{ output.data.try < 3 }}", 0.05),
                        },
                        {"name": "fold", **python("result = {'sum': sum(rows)}", rows="{{ read.rows }}")},
                    ],
                    "report",
                    input={"n": "{{ workload.n }}"},
                ),
                step("report", python("result = {'sum': total}", total="{{ work.sum }}")),
            ],
            {"n": 0},
        ),
    ),
    _n,
    lambda given: {"sum": 2 * given["n"] + 1},
    weight=5,
)

FAN_OUT = Kind(
    "fan_out",
    (
        playbook(
            "fan_out",
            [
                step(
                    "every",
                    python("result = n * n", n="{{ iter.n }}"),
                    "sum",
                    loop=at_once("range(workload.n) | list", 16),
                ),
                step("sum", python("result = {'sum': sum(all), 'count': len(all)}", all="{{ every.results }}")),
            ],
            {"n": 0},
        ),
    ),
    lambda number: {"n": 100 + number % 200},
    lambda given: {"sum": sum(n * n for n in range(given["n"])), "count": given["n"]},
    weight=2,
)

IN_ORDER = Kind(
    "in_order",
    (
        playbook(
            "in_order",
            [
                step(
                    "every",
                    python("result = n + before", n="{{ iter.n }}", before="{{ ctx.before | default(0) }}"),
                    "last",
                    loop=in_order("range(workload.n) | list"),
                ),
                step("last", python("result = {'sums': all}", all="{{ every.results }}")),
            ],
            {"n": 0},
        ),
    ),
    lambda number: {"n": 5 + number % 15},
    lambda given: {"sums": list(range(given["n"]))},
)


def _joins() -> str:
    when = {"left": "workload.n % 2 == 0", "right": "workload.n % 3 == 0", "always": "true"}
    sides = [{"step": name, "when": f"{{{{ {condition} }}}}"} for name, condition in when.items()]
    side = "{{ [left.v | default(0), right.v | default(0), always.v] }}"
    return playbook(
        "joins",
        [
            {**step("split", {"kind": "noop"}), **arcs("inclusive", *sides)},
            step("left", python("result = {'v': n + 1}", n="{{ workload.n }}"), "join"),
            step("right", python("result = {'v': n + 2}", n="{{ workload.n }}"), "right_too"),
            step("right_too", {"kind": "noop"}, "join"),
            step("always", python("result = {'v': n + 3}", n="{{ workload.n }}"), "join"),
            {
                **step("join", python("result = {'sides': sides}", sides=side)),
                **arcs("exclusive", {"step": "odd", "when": "{{ workload.n % 2 == 1 }}"}, {"step": "even"}),
            },
            step("odd", python("result = {'sides': sides, 'way': 'odd'}", sides="{{ join.sides }}")),
            step("even", python("result = {'sides': sides, 'way': 'even'}", sides="{{ join.sides }}")),
        ],
        {"n": 0},
    )


def _joined(given: dict[str, Any]) -> Any:
    n = given["n"]
    sides = [n + 1 if n % 2 == 0 else 0, n + 2 if n % 3 == 0 else 0, n + 3]
    return {"sides": sides, "way": "odd" if n % 2 else "even"}


JOINS = Kind("joins", (_joins(),), _n, _joined, weight=6)

LEAF = playbook("leaf", [twice("twice", "{{ workload.n }}", "n")], {"n": 0})
BRANCH = playbook("branch", one_more("first", "second", call("chaos/leaf", {"n": "{{ workload.n }}"})), {"n": 0})
CHILDREN = Kind(
    "children",
    (
        LEAF,
        BRANCH,
        playbook(
            "children",
            many_children(call("chaos/branch", {"n": "{{ iter.n }}"}), "range(workload.n, workload.n + 4) | list", 4),
            {"n": 0},
        ),
    ),
    _n,
    lambda given: {"all": [2 * n + 1 for n in range(given["n"], given["n"] + 4)]},
    weight=2,
)

TIMER = Kind(
    "timer",
    (
        playbook(
            "timer",
            [
                step(
                    "late",
                    {
                        **python("result = {'v': n, 'try': attempt}", n="{{ workload.n }}", attempt="{{ _attempt }}"),
                        "spec": _again("{{ output.data.try < 2 }}", BY_TIMER),
                    },
                    "after",
                ),
                step("after", python("result = {'v': v}", v="{{ late.v }}")),
            ],
            {"n": 0},
        ),
    ),
    _n,
    lambda given: {"v": given["n"]},
)

BACK_EDGE = Kind(
    "back_edge",
    (
        playbook(
            "back_edge",
            [
                step("begin", {"kind": "noop"}, "turn", set={"ctx.i": "{{ 0 }}"}),
                {
                    **step(
                        "turn", python("result = {'i': i + 1}", i="{{ ctx.i }}"), set={"ctx.i": "{{ output.data.i }}"}
                    ),
                    "next": {"arcs": [{"step": "turn", "when": "{{ ctx.i < workload.n }}"}, {"step": "end"}]},
                },
                step("end", python("result = {'i': i}", i="{{ ctx.i }}")),
            ],
            {"n": 0},
        ),
    ),
    lambda number: {"n": 3 + number % 12},
    lambda given: {"i": given["n"]},
)

# results by reference: of a step, of a task whose rule waits, and of the items of a loop
LARGE_RESULTS = Kind(
    "large",
    (
        playbook(
            "large",
            [
                *constructs.large("str(n)", "range(6) | list", "count"),
                step(
                    "count",
                    python(
                        "result = {'one': len(one), 'many': [len(item) for item in many]}",
                        one="{{ make.blob }}",
                        many="{{ many.results }}",
                    ),
                ),
            ],
            {"n": 0},
        ),
    ),
    _n,
    lambda given: {"one": LARGE * len(str(given["n"])), "many": [LARGE + n for n in range(6)]},
    weight=3,
)

# as many bytes as make a table of it, in the next steps; of a fixed text, which the oracle knows
TABLE_ROWS = 2000
TABLE = f"SELECT range AS n, repeat('x', 60) AS text FROM range({TABLE_ROWS})"


def _stored(store: str, tool: dict[str, Any]) -> dict[str, Any]:
    return {**tool, "output": {"store": {"kind": store}}}


def _stored_in_each() -> str:
    """A table and a value in each store, and the tables of a loop."""
    steps: list[Step] = []
    stores = ("disk", "kv", "postgres")
    names = [f"{what}_{store}" for store in stores for what in ("table", "value")]
    for store in stores:
        table = _stored(store, {"kind": "duckdb", "query": TABLE})
        value = _stored(store, python(f"result = {{'blob': str(n) * {LARGE}, 'n': n}}", n="{{ workload.n }}"))
        steps += [step(f"table_{store}", table), step(f"value_{store}", value)]
    for one, following in zip(steps, [*names[1:], "tables"], strict=True):
        one |= arcs("exclusive", {"step": following})
    looped = _stored("postgres", {"kind": "duckdb", "query": TABLE})
    steps.append(step("tables", looped, "sum", loop=at_once("range(3) | list", 3)))
    tables = [f"table_{store}.rows" for store in stores] + [f"tables.results[{number}].rows" for number in range(3)]
    sums = ", ".join(f"{name} | sum(attribute='n')" for name in tables)
    blobs = ", ".join(f"value_{store}.blob | length" for store in stores)
    code = "result = {'sums': sums, 'blobs': blobs}"
    steps.append(step("sum", python(code, sums=f"{{{{ [{sums}] }}}}", blobs=f"{{{{ [{blobs}] }}}}")))
    return playbook("stored", steps, {"n": 0})


STORED = Kind(
    "stored",
    (_stored_in_each(),),
    _n,
    lambda given: {
        "sums": 6 * [TABLE_ROWS * (TABLE_ROWS - 1) // 2],
        "blobs": 3 * [LARGE * len(str(given["n"]))],
    },
    weight=3,
)

# whatever order items end in, and however often they run
ITEMS_SET = Kind(
    "items_set",
    (
        playbook(
            "items_set",
            [
                constructs.items_that_set("each", "range(workload.n) | list", "end"),
                step("end", python("result = {'last': last, 'all': all}", last="{{ ctx.last }}", all="{{ each }}")),
            ],
            {"n": 0},
        ),
    ),
    lambda number: {"n": 5 + number % 24},
    lambda given: {"last": given["n"] - (2 if given["n"] % 3 == 2 else 1), "all": list(range(given["n"]))},
    weight=3,
)

FAILS = Kind(
    "fails",
    (
        playbook(
            "fails",
            [
                step("before", {"kind": "noop"}, "wrong"),
                wrong("never"),
                step("never", {"kind": "noop"}),
            ],
            {"n": 0},
        ),
    ),
    _n,
    weight=2,
)

# waits for something that never comes, itself and in a child, until somebody cancels it
WAITS = playbook(
    "waits",
    [
        step(
            "wait",
            {
                **python("result = {'ready': False}"),
                "spec": _again("{{ not output.data.ready }}", LONG_WAIT),
            },
        )
    ],
)
CANCELLED = Kind(
    "cancelled",
    (
        WAITS,
        playbook(
            "cancelled",
            [
                step(
                    "split",
                    {"kind": "noop"},
                    "turn",
                    "child",
                    next={"spec": {"mode": "inclusive"}, "arcs": [{"step": "turn"}, {"step": "child"}]},
                ),
                step("child", {"kind": "playbook", "path": "chaos/waits"}, "end"),
                {
                    **step("turn", python("import time\ntime.sleep(0.2)\nresult = 1")),
                    "next": {"arcs": [{"step": "turn", "when": "{{ true }}"}]},
                },
                step("end", {"kind": "noop"}),
            ],
        ),
    ),
    lambda number: {},
    weight=2,
    endless=True,
)


def _failing(name: str, steps: list[Step], *texts: str, **spec: Any) -> Kind:
    return Kind(name, (*texts, playbook(name, steps, {"n": 0}, **spec)), _n, weight=1)


NO_MATCH = _failing(
    "no_match",
    [
        {
            **step("ask", python("result = {'n': n}", n="{{ workload.n }}")),
            "next": {"arcs": [{"step": "never", "when": "{{ output.data.n < 0 }}"}]},
        },
        step("never", {"kind": "noop"}),
    ],
    no_next_is_error=True,
)
NOTHING_THERE = _failing(
    "nothing_there",
    [
        {
            **step("ask", python("result = {'n': n}", n="{{ workload.n }}")),
            "next": {"arcs": [{"step": "after", "when": "{{ output.data.m > 1 }}"}]},
        },
        step("after", {"kind": "noop"}),
    ],
)
CHILD_FAILS = _failing(
    "child_fails", [step("call", {"kind": "playbook", "path": "chaos/fails", "input": {"n": 7}})], *FAILS.texts
)
# a loop of which an item fails, after others in order
LOOP_FAILS = _failing(
    "loop_fails",
    [
        step(
            "every",
            python("result = 12 // (n - 3)", n="{{ iter.n }}"),
            "never",
            loop=in_order("range(6) | list"),
        ),
        step("never", {"kind": "noop"}),
    ],
)
# whose turns have no end but that of its budget
OVER_BUDGET = _failing(
    "over_budget",
    [step("turn", python("result = 1"), "turn")],
    budget={"max_invocations": 7},
)
MENDED = Kind(
    "mended",
    (
        playbook(
            "mended",
            [
                {
                    **step("try", python("result = 100 // (n % 3)", n="{{ workload.n }}")),
                    **on_error("mend", "report", set={"ctx.why": "{{ error.code }}"}),
                },
                step("mend", {"kind": "noop"}, "report"),
                step("report", python("result = why", why="{{ ctx.why | default('') }}")),
            ],
            {"n": 0},
        ),
    ),
    _n,
    lambda given: "" if given["n"] % 3 else "python.exception",
)
BEST_EFFORT = Kind(
    "best_effort",
    (
        playbook(
            "best_effort",
            [
                step(
                    "every",
                    python("result = 60 // (n % 4)", n="{{ iter.n }}"),
                    "count",
                    loop=at_once("range(workload.n) | list", 4),
                    spec=FORGIVING,
                ),
                step(
                    "count",
                    python("result = [all, stats]", all="{{ every.results }}", stats="{{ every.stats }}"),
                ),
            ],
            {"n": 0},
        ),
    ),
    lambda number: {"n": 5 + number % 20},
)
ADMISSION = Kind(
    "admission",
    (
        playbook(
            "admission",
            [
                {**step("receive", {"kind": "noop"}), **arcs("inclusive", {"step": "review"}, {"step": "book"})},
                step(
                    "review",
                    python("result = 'seen'"),
                    "close",
                    spec=admitting(
                        {"when": "{{ workload.n % 2 == 0 }}", "then": {"allow": True}},
                        {"else": {"then": {"allow": False}}},
                    ),
                ),
                step("book", python("result = n", n="{{ workload.n }}"), "close"),
                step("close", python("result = how", how="{{ review.status }}")),
                step("file", python("result = [how, n]", how="{{ close }}", n="{{ workload.n }}")),
            ],
            {"n": 0},
            final_step="file",
        ),
    ),
    _n,
    lambda given: ["ok" if given["n"] % 2 == 0 else "skipped", given["n"]],
)


def effect(name: str) -> dict[str, Any]:
    """A request whose name is its own within the execution."""
    return {
        "kind": "http",
        "method": "POST",
        "url": "{{ workload.url }}/{{ execution_id }}/" + name,
        "payload": {"of": name},
        "timeout": 20,
        "spec": PATIENT,
    }


EFFECTS = Kind(
    "effects",
    (
        playbook(
            "effects",
            [
                step("one", effect("one"), "many"),
                step("many", effect("many/{{ iter.n }}"), "tasks", loop=at_once("range(workload.n) | list", 3)),
                step(
                    "tasks",
                    [
                        {"name": "before", **effect("before/{{ ctx.round | default(0) }}")},
                        {
                            "name": "after",
                            **effect("after/{{ ctx.round | default(0) }}"),
                            "spec": constructs.again(
                                {
                                    "when": "{{ ctx.round | default(0) < 1 }}",
                                    "then": {"do": "jump", "to": "before", "set": {"ctx.round": 1}},
                                }
                            ),
                        },
                    ],
                    "sum",
                ),
                step(
                    "sum",
                    python(
                        "result = [one, [item['data']['n'] for item in many], last]",
                        one="{{ one.data.n }}",
                        many="{{ many.results }}",
                        last="{{ tasks.results.after.data.n }}",
                    ),
                ),
            ],
            {"n": 0, "url": ""},
        ),
    ),
    lambda number: {"n": 3 + number % 4},
    weight=5,
    effects=True,
)
# one branch has an effect after the other until its neighbour fails
EFFECTS_FAIL = Kind(
    "effects_fail",
    (
        playbook(
            "effects_fail",
            [
                {**step("split", {"kind": "noop"}), **arcs("inclusive", {"step": "turn"}, {"step": "late"})},
                step(
                    "turn",
                    effect("turn/{{ ctx.i | default(0) }}"),
                    "turn",
                    set={"ctx.i": "{{ ctx.i | default(0) + 1 }}"},
                ),
                step("late", python("import time\ntime.sleep(0.5)\nraise ValueError('enough')")),
            ],
            {"url": ""},
        ),
    ),
    lambda number: {},
    weight=2,
    effects=True,
)
EFFECTS_CANCELLED = Kind(
    "effects_cancelled",
    (
        playbook(
            "effects_cancelled",
            [
                step(
                    "turn",
                    effect("turn/{{ ctx.i | default(0) }}"),
                    "rest",
                    set={"ctx.i": "{{ ctx.i | default(0) + 1 }}"},
                ),
                step("rest", python("import time\ntime.sleep(0.1)"), "turn"),
            ],
            {"url": ""},
        ),
    ),
    lambda number: {},
    weight=2,
    endless=True,
    effects=True,
)

# rows of a table of the users'; each execution has its own, and each row an effect
CLAIMED = Kind(
    "claimed",
    (
        playbook(
            "claimed",
            [
                step(
                    "make",
                    {
                        "kind": "postgres",
                        "auth": DATABASE,
                        "command": "INSERT INTO job (execution_id, id) SELECT '{{ execution_id }}', n "
                        "FROM generate_series(1, CAST({{ workload.n }} AS integer)) AS n ON CONFLICT DO NOTHING",
                        "spec": PATIENT,
                    },
                    "drain",
                ),
                step(
                    "drain",
                    effect("row/{{ iter.row.id }}"),
                    "all",
                    loop=constructs.claiming(
                        "UPDATE job SET claims = claims + 1 WHERE execution_id = '{{ execution_id }}' AND id IN ("
                        "SELECT id FROM job WHERE execution_id = '{{ execution_id }}' AND claims = 0 "
                        "ORDER BY id LIMIT {{ __frame_max_rows }} FOR UPDATE SKIP LOCKED) RETURNING id",
                        DATABASE,
                        4,
                        3,
                    ),
                ),
                step("all", python("result = sorted(one['data']['n'] for one in all)", all="{{ drain }}")),
            ],
            {"n": 0, "url": ""},
        ),
    ),
    lambda number: {"n": 5 + number % 15},
    weight=3,
    effects=True,
    claims=lambda given: [{"id": n} for n in range(1, given["n"] + 1)],
)
COLLECTED = Kind(
    "collected",
    (
        playbook(
            "collected",
            [
                constructs.pages("pages", "workload.n", "sum"),
                step("sum", python("result = items", items="{{ pages.items }}")),
            ],
            {"n": 0},
        ),
    ),
    lambda number: {"n": 1 + number % 6},
    # each page was read twice
    lambda given: [item for page in range(given["n"]) for item in 2 * [2 * page, 2 * page + 1]],
    weight=3,
)
OVERDUE = Kind(
    "overdue",
    (
        playbook(
            "overdue",
            [
                step("before", {"kind": "noop"}, "wait"),
                step(
                    "wait",
                    {**python("result = {'ready': False}"), "spec": _again("{{ not output.data.ready }}", LONG_WAIT)},
                ),
            ],
            timeout=3,
        ),
    ),
    lambda number: {},
    weight=2,
)
# fetched again every few seconds, and shared by all executions
SECRET = Kind(
    "secret",
    (
        playbook(
            "secret",
            [
                step(
                    "use",
                    {**effect("use"), "headers": {"Authorization": "Bearer {{ keychain.client.phrase }}"}},
                    "tell",
                ),
                step(
                    "tell",
                    python(
                        "result = {'seen': ['is ' + phrase], 'n': n}",
                        phrase="{{ keychain.client.phrase }}",
                        n="{{ workload.n }}",
                    ),
                    "end",
                ),
                step("end", python("result = [seen, n]", seen="{{ tell.seen }}", n="{{ tell.n }}")),
            ],
            {"n": 0, "url": ""},
            [
                {
                    "name": "client",
                    "kind": "secrets",
                    "provider": "credential",
                    "scope": "global",
                    "auto_renew": True,
                    "ttl": 5,
                    "auth": CLIENT,
                    "map": {"phrase": "client_secret"},
                }
            ],
        ),
    ),
    _n,
    lambda given: [["is ***"], given["n"]],
    weight=3,
    effects=True,
)

TICK = playbook("tick", [step("tick", python("result = {'n': n}", n="{{ workload.n }}"))], {"n": 0})

KINDS = (
    CHAIN,
    PIPELINED,
    PIPELINE,
    FAN_OUT,
    IN_ORDER,
    JOINS,
    CHILDREN,
    TIMER,
    BACK_EDGE,
    LARGE_RESULTS,
    STORED,
    ITEMS_SET,
    FAILS,
    CANCELLED,
    NO_MATCH,
    NOTHING_THERE,
    CHILD_FAILS,
    LOOP_FAILS,
    OVER_BUDGET,
    MENDED,
    BEST_EFFORT,
    ADMISSION,
    EFFECTS,
    EFFECTS_FAIL,
    EFFECTS_CANCELLED,
    CLAIMED,
    COLLECTED,
    OVERDUE,
    SECRET,
)
BY_NAME = {kind.name: kind for kind in KINDS}
# every text that must be registered, children first
TEXTS = tuple(dict.fromkeys([*(text for kind in KINDS for text in kind.texts), TICK]))
