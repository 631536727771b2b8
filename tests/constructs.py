"""What the playbooks of long tests are made of: steps and tools, and the constructs that more than one of them runs."""

from __future__ import annotations

import json
from typing import Any

Step = dict[str, Any]
Tool = dict[str, Any]

# a process that is killed under its task, or a store that is away, is no reason to give the task up
RETRY = {"do": "retry", "attempts": 60, "backoff": "fixed", "delay": 0.4}
PATIENT = {"policy": {"rules": [{"when": "{{ output.status == 'error' and output.error.retryable }}", "then": RETRY}]}}
FORGIVING = {"policy": {"failure": {"mode": "best_effort"}}}
# above 64 KiB: goes by reference
LARGE = 80_000
# a wait of more than 5 s is a timer in the log and holds no worker
BY_TIMER = 5.5


def document(
    folder: str,
    name: str,
    steps: list[Step],
    workload: dict[str, Any],
    spec: dict[str, Any],
    keychain: list[dict[str, Any]] | None = None,
) -> str:
    """The playbook `folder`/`name`. JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": name, "path": f"{folder}/{name}"},
            "executor": {"spec": spec},
            **({"keychain": keychain} if keychain else {}),
            "workload": workload,
            "workflow": steps,
        }
    )


# -- tools


def python(code: str, **given: str) -> Tool:
    return {"kind": "python", "code": code, "input": given, "spec": PATIENT}


def add_one(of: str) -> Tool:
    return python("result = {'n': n + 1}", n=of)


def call(path: str, given: dict[str, str]) -> Tool:
    return {"kind": "playbook", "path": path, "input": given}


def again(then: dict[str, Any]) -> dict[str, Any]:
    """The spec of a patient tool that has one more rule."""
    return {"policy": {"rules": [*PATIENT["policy"]["rules"], then]}}


# -- steps


def step(name: str, tool: Any, *following: str, **more: Any) -> Step:
    arcs = {"next": {"arcs": [{"step": target} for target in following]}} if following else {}
    return {"step": name, "tool": tool, **arcs, **more}


def arcs(mode: str, *to: dict[str, Any]) -> dict[str, Any]:
    """`next` of a step; `mode` is inclusive or exclusive."""
    return {"next": {"spec": {"mode": mode}, "arcs": list(to)}}


def in_order(items: str) -> dict[str, Any]:
    return {"in": f"{{{{ {items} }}}}", "iterator": "n", "spec": {"mode": "sequential"}}


def at_once(items: str, limit: int) -> dict[str, Any]:
    return {"in": f"{{{{ {items} }}}}", "iterator": "n", "spec": {"mode": "parallel", "max_in_flight": limit}}


def claiming(claim: str, auth: str, limit: int, rows: int) -> dict[str, Any]:
    """A loop over the rows that the statement claims, up to `rows` at once by each of `limit` frames."""
    return {
        "iterator": "row",
        "cursor": {"kind": "postgres", "auth": auth, "claim": claim},
        "spec": {"mode": "cursor", "max_in_flight": limit, "frame": {"max_rows": rows, "row_concurrency": 2}},
    }


def admitting(*rules: dict[str, Any]) -> dict[str, Any]:
    """The spec of a step that is run only if these let it."""
    return {"policy": {"admit": {"rules": list(rules)}}}


# -- constructs


def twice(name: str, of: str, variable: str) -> Step:
    return step(name, python(f"result = {{'v': 2 * {variable}}}", **{variable: of}))


def one_more(first: str, second: str, tool: Tool) -> list[Step]:
    """Calls a playbook that gives `v`, and adds one."""
    return [
        step(first, tool, second),
        step(second, python("result = {'v': v + 1}", v=f"{{{{ {first}.v }}}}")),
    ]


def many_children(tool: Tool, items: str, limit: int) -> list[Step]:
    """A loop whose items are playbooks that give `v`."""
    return [
        step("every", tool, "sum", loop=at_once(items, limit)),
        step("sum", python("result = {'all': [one['v'] for one in all]}", all="{{ every.results }}")),
    ]


def items_that_set(name: str, items: str, following: str) -> Step:
    """A loop whose items, which end in another order than they begin, set `ctx.last`: all but every third of them."""
    some = {"when": "{{ iter.n % 3 != 1 }}", "then": {"do": "continue", "set": {"ctx.last": "{{ iter.n }}"}}}
    work = python("import time\ntime.sleep(0.02 * (7 * n % 5))\nresult = n", n="{{ iter.n }}")
    return step(name, {**work, "spec": again(some)}, following, loop=at_once(items, 8))


def pages(name: str, count: str, following: str) -> Step:
    """A pipeline that reads `count` pages of two items, each at the second attempt, and collects the items."""
    number = "{{ step.page | default(0) }}"
    code = "result = {'items': [2 * n, 2 * n + 1], 'attempt': attempt}"
    read = {
        "name": "page",
        **python(code, n=number, attempt="{{ _attempt }}"),
        "output": {"accumulate": {"strategy": "concat", "merge_path": "$.items", "manifest_as": "items"}},
        "spec": again(
            {"when": "{{ output.data.attempt < 2 }}", "then": {**RETRY, "backoff": "exponential", "delay": 0.05}}
        ),
    }
    back = {"do": "jump", "to": "page", "set": {"step.page": "{{ step.page | default(0) + 1 }}"}}
    more = {"when": f"{{{{ step.page | default(0) + 1 < {count} }}}}", "then": back}
    turn = {"name": "turn", **python("result = n", n=number), "spec": again(more)}
    return step(name, [read, turn], following)


def large(blob: str, items: str, following: str) -> list[Step]:
    """Results by reference: of a step, and of the items of a loop. `blob` is an expression of Python over n."""
    return [
        step("make", python(f"result = {{'blob': {blob} * {LARGE}, 'n': n}}", n="{{ workload.n }}"), "many"),
        large_items("many", items, following),
    ]


def large_items(name: str, items: str, following: str, letter: str = "x") -> Step:
    code = f"result = '{letter}' * ({LARGE} + n)"
    return step(name, python(code, n="{{ iter.n }}"), following, loop=at_once(items, 3))


def wrong(following: str) -> Step:
    return step("wrong", python("raise ValueError(f'{n} is wrong')", n="{{ workload.n }}"), following)


def on_error(target: str, otherwise: str, **more: Any) -> dict[str, Any]:
    """`next` of a step that may fail, and is mended then."""
    mend = {"step": target, "when": "{{ event.name == 'call.error' }}", **more}
    return {"next": {"arcs": [mend, {"step": otherwise}]}}
