"""The playbooks that are measured, as text."""

from __future__ import annotations

import json
from typing import Any

import pyarrow

# of the tables: of one column of 64 bits
ROWS_PER_MB = 125_000
# the most that a playbook may ask for
MAX_TURNS = 100_000


def _playbook(
    name: str,
    workflow: list[dict[str, Any]],
    workload: dict[str, Any] | None = None,
    durability: str = "step",
    **spec: Any,
) -> str:
    """JSON is YAML. `spec`: more of the executor's."""
    return json.dumps(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": name, "path": f"bench/{name}"},
            "executor": {"spec": {"durability": durability, **spec}},
            "workload": workload or {},
            "workflow": workflow,
        }
    )


def _python(code: str, **given: str) -> dict[str, Any]:
    return {"kind": "python", "code": code, **({"input": given} if given else {})}


def _to(step: str, when: str | None = None) -> dict[str, Any]:
    return {"step": step, **({"when": when} if when else {})}


def chain(name: str, length: int, durability: str = "step", before: str = "") -> str:
    """Each step adds one to what the one before it gave: the last gives {"n": length}. `before`: lines of code before
    that."""
    steps: list[dict[str, Any]] = []
    for number in range(1, length + 1):
        tool = _python(f"{before}result = {{'n': n + 1}}", n=f"{{{{ s{number - 1}.n }}}}" if number > 1 else "{{ 0 }}")
        step: dict[str, Any] = {"step": f"s{number}", "tool": tool}
        if number < length:
            step["next"] = {"arcs": [_to(f"s{number + 1}")]}
        steps.append(step)
    return _playbook(name, steps, durability=durability)


def noops(name: str, length: int) -> str:
    """As `chain`, of steps that do nothing: what remains is the engine."""
    steps = [
        {"step": f"s{number}", "tool": {"kind": "noop"}, "next": {"arcs": [_to(f"s{number + 1}")]}}
        for number in range(1, length)
    ]
    return _playbook(name, [*steps, {"step": f"s{length}", "tool": {"kind": "noop"}}])


def single() -> str:
    return _playbook("single", [{"step": "only", "tool": _python("result = {'n': 1}")}])


def fanout(name: str, in_flight: int) -> str:
    """workload.n items, each doubled; the last step says whether all came back, in order."""
    code = "result = {'ok': all_of_them == [2 * i for i in range(n)], 'count': len(all_of_them)}"
    return _playbook(
        name,
        [
            {
                "step": "each",
                "loop": {
                    "in": "{{ range(workload.n) | list }}",
                    "iterator": "item",
                    "spec": {"mode": "parallel", "max_in_flight": in_flight},
                },
                "tool": _python("result = 2 * item", item="{{ iter.item }}"),
                "next": {"arcs": [_to("check", "{{ event.name == 'loop.done' }}")]},
            },
            {"step": "check", "tool": _python(code, all_of_them="{{ each.results }}", n="{{ workload.n }}")},
        ],
        {"n": 1000},
    )


def back_edge(name: str = "history", durability: str = "step") -> str:
    """One step, run workload.n times, by an arc to itself."""
    return _playbook(
        name,
        [
            {"step": "begin", "tool": {"kind": "noop"}, "set": {"ctx.i": "{{ 0 }}"}, "next": {"arcs": [_to("turn")]}},
            {
                "step": "turn",
                "tool": _python("result = {'i': i + 1}", i="{{ ctx.i }}"),
                "set": {"ctx.i": "{{ output.data.i }}"},
                "next": {"arcs": [_to("turn", "{{ ctx.i < workload.n }}"), _to("end")]},
            },
            {"step": "end", "tool": _python("result = {'i': i}", i="{{ ctx.i }}")},
        ],
        {"n": 2000},
        durability,
        max_turns=MAX_TURNS,
    )


def endless() -> str:
    """One step that is followed by itself, without a tool, until it is cancelled or has turned 100,000 times."""
    turn = {"step": "turn", "tool": {"kind": "noop"}, "next": {"arcs": [_to("turn")]}}
    return _playbook("endless", [turn], max_turns=MAX_TURNS)


def sleep() -> str:
    return _playbook("sleep", [{"step": "only", "tool": _python("import time; time.sleep(1); result = {}")}])


def payload() -> str:
    """One step makes workload.mb megabytes, the next one counts them."""
    return _playbook(
        "payload",
        [
            {
                "step": "make",
                "tool": _python("result = {'blob': 'x' * (mb * 1000000)}", mb="{{ workload.mb }}"),
                "next": {"arcs": [_to("count")]},
            },
            {"step": "count", "tool": _python("result = {'n': len(blob)}", blob="{{ make.blob }}")},
        ],
        {"mb": 100},
    )


_TABLE = """\
import time
import pyarrow

def main(mb):
    rows = pyarrow.array(range(125_000), pyarrow.int64())
    table = pyarrow.table({"n": pyarrow.chunked_array([rows] * mb)})
    return {"at": time.time(), "rows": table}
"""
_READ = """\
import time
import pyarrow

def main(rows: pyarrow.Table, at):
    ends = rows["n"][0].as_py(), rows["n"][-1].as_py()
    read = time.perf_counter() - asked
    return {"seconds": time.time() - at, "read": read, "rows": rows.num_rows, "ends": ends}

# now main gets its table
asked = time.perf_counter()
"""


def tables(name: str = "tables", pool: str | None = None) -> str:
    """One step makes a table of workload.mb megabytes, the next one says how long it took to come, and how long its
    code waited for it. `pool`: of the second step."""
    read: dict[str, Any] = {"step": "read", "tool": _python(_READ, rows="{{ make.rows }}", at="{{ make.at }}")}
    return _playbook(
        name,
        [
            {"step": "make", "tool": _python(_TABLE, mb="{{ workload.mb }}"), "next": {"arcs": [_to("read")]}},
            {**read, **({"pool": pool} if pool else {})},
        ],
        {"mb": 100},
    )


def table(megabytes: int) -> pyarrow.Table:
    """What the first step of `tables` makes."""
    rows = pyarrow.array(range(ROWS_PER_MB), pyarrow.int64())
    return pyarrow.table({"n": pyarrow.chunked_array([rows] * megabytes)})


def read_table(result: Any, megabytes: int) -> dict[str, float]:
    """What the second step of `tables` says. RuntimeError unless it has got all of it."""
    found = result["data"] if isinstance(result, dict) and "data" in result else result
    expected = megabytes * ROWS_PER_MB, [0, ROWS_PER_MB - 1]
    if not isinstance(found, dict) or (found.get("rows"), found.get("ends")) != expected:
        raise RuntimeError(f"the step that reads a table of {megabytes} MB gave {result}")
    return {name: float(found[name]) for name in ("seconds", "read")}


def kept(name: str, store: str, pool: str) -> str:
    """workload.n results of workload.size bytes, each put into the store, and then read by a step in `pool`."""
    make = _python("result = {'blob': 'x' * size}", size="{{ workload.size }}")
    read = _python("assert len(blob) == size\nresult = {}", blob="{{ make.blob }}", size="{{ workload.size }}")
    return _playbook(
        name,
        [
            {"step": "begin", "tool": {"kind": "noop"}, "set": {"ctx.i": "{{ 0 }}"}, "next": {"arcs": [_to("make")]}},
            {
                "step": "make",
                "tool": {**make, "output": {"store": {"kind": store}}},
                "next": {"arcs": [_to("read")]},
            },
            {
                "step": "read",
                "pool": pool,
                "tool": read,
                "set": {"ctx.i": "{{ ctx.i + 1 }}"},
                "next": {"arcs": [_to("make", "{{ ctx.i < workload.n }}"), _to("end")]},
            },
            {"step": "end", "tool": _python("result = {'n': i}", i="{{ ctx.i }}")},
        ],
        {"n": 10, "size": 100_000},
        max_turns=MAX_TURNS,
    )


FIB = "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"


def fibo(name: str, number: int, times: int) -> str:
    steps: list[dict[str, Any]] = []
    for index in range(1, times + 1):
        step: dict[str, Any] = {"step": f"f{index}", "tool": _python(f"{FIB}result = {{'fib': fib({number})}}")}
        if index < times:
            step["next"] = {"arcs": [_to(f"f{index + 1}")]}
        steps.append(step)
    return _playbook(name, steps)
