"""Whole executions played against the core: the tools' answers are fixed, everything else is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import orjson

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import items_digest
from noetl_serverless.engine.state import Command

# (step, generation, item index or None) -> the data, or an error for {"error": ...}
Answers = Callable[[str, int, int | None], Any]

CHAIN = """
    - {step: a, tool: {kind: noop}, set: {ctx.x: "{{ output.data.v }}"}, next: {arcs: [{step: b}]}}
    - {step: b, tool: {kind: noop}, next: {arcs: [{step: c, when: "{{ ctx.x > 0 }}"}, {step: d}]}}
    - {step: c, tool: {kind: noop}}
    - {step: d, tool: {kind: noop}}
    """
DIAMOND = """
    - step: split
      tool: {kind: noop}
      next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}, {step: never, when: "{{ false }}"}]}
    - {step: left, tool: {kind: noop}, next: {arcs: [{step: join}]}}
    - {step: right, tool: {kind: noop}, next: {arcs: [{step: more}]}}
    - {step: more, tool: {kind: noop}, next: {arcs: [{step: join}]}}
    - {step: never, tool: {kind: noop}, next: {arcs: [{step: join}]}}
    - {step: join, tool: {kind: noop}}
    """
LOOP = """
    - {step: a, tool: {kind: noop}, next: {arcs: [{step: each}]}}
    - step: each
      loop: {in: "{{ range(40) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 8}}
      tool: {kind: noop}
      next: {arcs: [{step: after}]}
    - {step: after, tool: {kind: noop}}
    """
BEST_EFFORT = """
    - step: each
      loop: {in: "{{ range(12) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 4}}
      tool: {kind: noop}
      spec: {policy: {failure: {mode: best_effort}}}
      next: {arcs: [{step: after, when: "{{ output.data.stats.failed > 0 }}"}]}
    - {step: after, tool: {kind: noop}}
    """
RECOVERY = """
    - step: a
      tool: {kind: noop}
      next: {arcs: [{step: mend, when: "{{ event.name == 'call.error' }}"}, {step: b}]}
    - {step: mend, tool: {kind: noop}}
    - {step: b, tool: {kind: noop}}
    """
AGAIN = """
    - step: poll
      tool: {kind: noop}
      set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
      next: {arcs: [{step: poll, when: "{{ ctx.n < 3 }}"}, {step: done}]}
    - {step: done, tool: {kind: noop}}
    """
TWO_LOOPS = """
    - step: split
      tool: {kind: noop}
      next: {spec: {mode: inclusive}, arcs: [{step: one}, {step: two}]}
    - step: one
      loop: {in: "{{ range(9) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 3}}
      tool: {kind: noop}
      next: {arcs: [{step: join}]}
    - step: two
      loop: {in: "{{ range(5) | list }}", iterator: n, spec: {mode: sequential}}
      tool: {kind: noop}
      next: {arcs: [{step: join}]}
    - {step: join, tool: {kind: noop}}
    """
ADMISSION = """
    - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
    - step: b
      tool: {kind: noop}
      spec: {policy: {admit: {rules: [{when: "{{ a.v > 100 }}", then: {allow: true}}, {else: {then: {allow: false}}}]}}}
      next: {arcs: [{step: c, when: "{{ event.name == 'step.skipped' }}"}]}
    - {step: c, tool: {kind: noop}}
    """
FAILING = """
    - step: split
      tool: {kind: noop}
      next: {spec: {mode: inclusive}, arcs: [{step: bad}, {step: slow}]}
    - {step: bad, tool: {kind: noop}}
    - {step: slow, tool: {kind: noop}, next: {arcs: [{step: slower}]}}
    - {step: slower, tool: {kind: noop}}
    """
PARENT = """
    - {step: call, tool: {kind: playbook, path: t/child}, next: {arcs: [{step: after}]}}
    - {step: after, tool: {kind: noop}}
    """
WORKFLOWS = {
    "chain": CHAIN,
    "diamond": DIAMOND,
    "loop": LOOP,
    "best effort": BEST_EFFORT,
    "recovery": RECOVERY,
    "again": AGAIN,
    "two loops": TWO_LOOPS,
    "admission": ADMISSION,
    "failing": FAILING,
    "parent": PARENT,
}
CHILD = {"path": "t/child", "version": 1, "payload": {}, "return_step": None, "catalog_id": "1", "plan_hash": "h"}


def answers(step: str, generation: int, index: int | None) -> Any:
    """What the tools of these workflows say."""
    if step in ("bad", "a") and generation == 1 and step == "bad":
        return {"error": {"kind": "tool", "code": "boom", "message": f"it broke at {random.random()}"}}
    if index is not None and index % 5 == 3 and step == "each":
        return {"n": index, "odd": index % 2}
    return {"v": len(step), "of": step, "generation": generation, **({"index": index} if index is not None else {})}


def play(run: Any, seed: int, answer: Answers = answers, defer: float = 0.2) -> Any:
    """Play an execution to its end: which command ends next, how it is cut and delayed, is drawn from the seed."""
    draw = random.Random(seed)
    while not run.state.ended:
        run.now += draw.randrange(5000)
        choices = [("command", name) for name in run.state.commands]
        choices += [("timer", name) for name in run.state.timers] + [("child", id) for id in run.state.children]
        kind, name = draw.choice(sorted(choices))
        if kind == "timer":
            step, _, generation = run.state.timers[name].key.rpartition("#")
            run.fact(e.TIMER_FIRED, step=step, generation=int(generation), payload={"timer": name})
        elif kind == "child":
            step, _, generation = run.state.children[name].key.rpartition("#")
            payload = {
                "execution_id": name,
                "resumes": False,
                "status": "ok",
                "data": answer(step, int(generation), None),
            }
            run.fact(e.CHILD_ENDED, step=step, generation=int(generation), payload=payload)
        else:
            _end(run, name, run.state.commands[name], draw, answer, defer)
    return run


def _end(run: Any, name: str, command: Command, draw: random.Random, answer: Answers, defer: float) -> None:
    step, _, text = command.key.rpartition("#")
    generation = int(text)
    meta = {"worker": f"w-{draw.randrange(9)}", "fence": draw.randrange(1000), "duration_ms": draw.randrange(100)}
    if draw.random() < defer and command.attempt < 3:
        run.report(name, e.CALL_DEFERRED, delay=draw.randrange(1, 9), resume={"task": step}, meta=meta)
    elif run.plan.steps[step].parks:
        run.report(name, e.CALL_PARKED, child=CHILD, meta=meta)
    elif command.frame is None:
        data = answer(step, generation, None)
        failed = isinstance(data, dict) and "error" in data
        run.report(name, e.CALL_ERROR if failed else e.CALL_DONE, meta=meta, **(data if failed else {"data": data}))
    else:
        _end_frame(run, name, command.frame, step, generation, draw, answer, meta)


def _end_frame(
    run: Any,
    name: str,
    frame: tuple[int, int, int, int],
    step: str,
    generation: int,
    draw: random.Random,
    answer: Answers,
    meta: dict[str, Any],
) -> None:
    _, start, end, _ = frame
    end = start + draw.randint(1, end - start)
    results = [answer(step, generation, index) for index in range(start, end)]
    wrong = {str(start + place): item["error"] for place, item in enumerate(results) if "error" in item}
    data = [None if "error" in item else item for item in results]
    counts: dict[str, Any] = {"start": start, "end": end, "ok": len(data) - len(wrong), "failed": len(wrong)}
    if wrong:
        counts |= {"errors": wrong, "error": {**next(iter(wrong.values())), "index": int(next(iter(wrong)))}}
    where: dict[str, Any] = {"data": data, "bytes": len(orjson.dumps(data))}
    if draw.random() < 0.3:
        ref = {"kind": "result_ref", "ref": f"noetl://execution/7/result/{step}/{draw.randrange(10**8):08d}"}
        where = {
            "ref": {**ref, "meta": {"sha256": f"{draw.randrange(10**9):064x}"}},
            "digest": f"{items_digest(start, data):064x}",
        }
    run.report(name, e.FRAME_COMMITTED, **counts, **where, item_ms=draw.choice([0.5, 2.0, 20.0, 90.0]), meta=meta)
