"""One seed: run it, judge it, and tell its story."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from noetl_serverless.engine import decide, evolve_loops, loops
from noetl_serverless.orchestrator import commits, payloads, plans, reports, start, transition
from noetl_serverless.reconciler import reconciler
from noetl_serverless.results import offload
from noetl_serverless.telemetry import presence
from noetl_serverless.worker import client, tries, worker
from noetl_serverless.worker.drain import reporter
from noetl_serverless.worker.execution import (
    cursor,
    executor,
    frame,
    keychain,
    pipeline,
    set_values,
    store_result,
    task_call,
    time_budget,
    toolbox,
)
from noetl_serverless.worker.execution.attempts import Attempts
from noetl_serverless.worker.execution.stopwatch import Stopwatch

from .checks import judge, outcomes, unequal
from .faults import Faults, Limits, none, stream
from .loop import Task
from .playbooks import SHARE, book, plan_of, version_of
from .rules import Broken
from .world import Caches, Setting, World


@dataclass(slots=True)
class Verdict:
    seed: int
    digest: int
    fault: Broken | None
    trace: list[tuple[Any, ...]] = field(repr=False)
    strikes: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    events: int = 0
    executions: int = 0
    steps: int = 0


def run_seed(seed: int, limits: Limits | None = None) -> Verdict:
    """With the first seed of every other book goes what its playbooks do where nothing goes wrong."""
    limits = limits or Limits()
    # before any mutant or fault: how it ends when nothing goes wrong
    expected = oracle(seed // SHARE)
    if seed % (2 * SHARE) == 0:
        world, fault = calm(seed, expected)
        if fault is not None:
            return _verdict(seed, world, fault)
    return _verdict(seed, *simulate(seed, Faults(seed, limits), limits, expected))


def _verdict(seed: int, world: World, fault: Broken | None) -> Verdict:
    return Verdict(
        seed,
        world.digest(),
        fault,
        world.trace,
        world.faults.strikes,
        dict(world.faults.seen),
        sum(len(execution.events) for execution in world.log.executions.values()),
        len(world.log.executions),
        world.loop.steps,
    )


@lru_cache(maxsize=256)
def oracle(number: int) -> dict[str, Any]:
    """label -> how the execution of that label ends in a world without faults, and without anything that hurts."""
    seed = number * SHARE
    world, fault = simulate(seed, none(seed), Limits(), {}, Setting(faulty=False))
    if fault is not None:
        raise AssertionError(f"book {number} breaks without any fault: {fault}")
    return outcomes(world)


def calm(seed: int, expected: dict[str, Any]) -> tuple[World, Broken | None]:
    """The same once more beside what hurts, where nothing goes wrong: whatever the control planes have at hand, the
    others end as they would without it, and the logs are equal to the last byte.

    A worker that claims a command from a control plane whose copy is old does not run ahead, and so is done at another
    time: for the comparison nothing is run ahead, and each outcome reported by itself.
    """
    pipelined = book(seed // SHARE).pipelined
    first, fault = simulate(seed, none(seed), Limits(), expected, Setting("kept", ahead=pipelined))
    if fault is None and pipelined:
        first, fault = simulate(seed, none(seed), Limits(), {}, Setting("kept", ahead=False))
    others: tuple[Caches, ...] = ("off", "alternating")
    for caches in others:
        if fault is None:
            first, fault = _again(seed, first, Setting(caches, ahead=False))
    return first, fault


def _again(seed: int, first: World, setting: Setting) -> tuple[World, Broken | None]:
    other, fault = simulate(seed, none(seed), Limits(), {}, setting)
    if fault is None and (where := unequal(first, other)) is not None:
        fault = Broken("two copies of a state do not agree", f"{first.setting.caches} / {setting.caches}: {where}")
    return other, fault


def simulate(
    seed: int, faults: Faults, limits: Limits, expected: dict[str, Any], setting: Setting | None = None
) -> tuple[World, Broken | None]:
    """The world after its run, and the first rule that does not hold of it."""
    with deterministic(seed, by_itself=setting is not None and not setting.ahead) as patched:
        world = World(seed, limits, faults=faults, setting=setting)
        patched.world = world
        try:
            world.run()
        finally:
            world.loop.close()
        return world, judge(world, expected)


@contextmanager
def deterministic(seed: int, by_itself: bool = False) -> Iterator[SimpleNamespace]:
    """The clocks, the chance and the limits of the modules that have their own, from the seed. `by_itself`: no outcome
    is reported together with others, of which some may lose a race and come later."""
    patched = SimpleNamespace(world=None)

    def now() -> float:
        return patched.world.loop.now  # type: ignore[no-any-return]

    clock = SimpleNamespace(monotonic=now, perf_counter=now, time=now)
    calendar = SimpleNamespace(now=lambda zone: datetime.fromtimestamp(patched.world.loop.wall(), zone))
    small = stream(seed // SHARE, "limits").random() < 0.5
    knows_references = version_of(seed // SHARE) > 1
    usual = offload.Output(inline_bytes=60) if small else offload.USUAL
    swaps: list[tuple[Any, str, Any]] = [
        (client, "time", clock),
        (tries, "time", clock),
        (
            tries,
            "random",
            SimpleNamespace(uniform=lambda low, high: low + (high - low) * patched.world.chance.random()),
        ),
        (executor, "Stopwatch", lambda: Stopwatch(now)),
        (executor, "Attempts", lambda worker: Attempts(worker, lambda: int(patched.world.loop.wall() * 1000))),
        (executor, "_now", lambda: f"{now():.3f}"),
        (frame, "time", clock),
        (cursor, "time", clock),
        (keychain, "time", clock),
        (keychain, "token_hex", lambda size: patched.world.token("fetches", size)),
        (toolbox, "time", clock),
        (transition, "advance", lambda plan, state, fact: _advance(patched.world, plan, state, fact)),
        # what fails for one alone is told of here, and nowhere else
        *((module, "logger", ExceptionLog(patched)) for module in (commits, reports, reconciler)),
        (offload, "datetime", calendar),
        (reconciler, "monotonic", now),
        (reconciler, "perf_counter", now),
        (start, "secrets", SimpleNamespace(token_hex=lambda size: patched.world.token("executions", size))),
        (presence, "secrets", SimpleNamespace(token_hex=lambda size: patched.world.token("workers", size))),
        (worker, "TimeBudget", lambda seconds, grace: time_budget.TimeBudget(seconds, grace=grace, clock=now)),
        (reporter, "MAX_OUTCOMES", 1 if by_itself else vars(reporter)["MAX_OUTCOMES"]),
        (evolve_loops, "LOOP_INLINE_BYTES", 50 if small else vars(evolve_loops)["LOOP_INLINE_BYTES"]),
        (loops, "INLINE_BYTES", 12 if small else vars(loops)["INLINE_BYTES"]),
        (task_call, "PAYLOAD_BYTES", 4 if small else vars(task_call)["PAYLOAD_BYTES"]),
        # to a control plane that knows no references what is larger cannot be told at all
        (set_values, "SET_VALUE_BYTES", 12 if small and knows_references else vars(set_values)["SET_VALUE_BYTES"]),
        (payloads, "monotonic", now),
        # compiled once for all worlds: it took 44 % of the time
        (plans, "load_plan", plan_of),
        (pipeline, "INLINE_LOCALS_BYTES", 200 if small else vars(pipeline)["INLINE_LOCALS_BYTES"]),
        (frame, "INLINE_LOCALS_BYTES", 200 if small else vars(frame)["INLINE_LOCALS_BYTES"]),
    ]
    defaults: Any = store_result.store_result.__kwdefaults__
    assert defaults is not None
    kept = {(module, name): getattr(module, name) for module, name, _ in swaps}
    hook, level = sys.unraisablehook, logging.root.manager.disable
    collecting = gc.isenabled()
    gc.disable()
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda args: None
    for module, name, value in swaps:
        setattr(module, name, value)
    defaults["output"] = usual
    try:
        yield patched
    finally:
        for (module, name), value in kept.items():
            setattr(module, name, value)
        defaults["output"] = offload.USUAL
        logging.disable(level)
        patched.world = None
        if Task.count and collecting:
            gc.enable()
        sys.unraisablehook = hook


def _advance(world: World, plan: Any, state: Any, fact: Any) -> Any:
    if plan is not None and world.book.undecidable.get(plan.path) == fact.type:
        raise RuntimeError("planted")
    return decide.advance(plan, state, fact)


class ExceptionLog:
    """A log that nobody reads, but for exceptions: the rest goes on without them, and a mistake was made."""

    def __init__(self, patched: SimpleNamespace) -> None:
        self._patched = patched

    def exception(self, message: str, *args: Any, **more: Any) -> None:
        error = sys.exception()
        if isinstance(error, Exception):
            self._patched.world.caught(error, message % args)

    def __getattr__(self, level: str) -> Any:
        return lambda *args, **more: None


def trace_lines(verdict: Verdict, names: dict[str, str] | None = None) -> str:
    """The trace as lines; executions by short names."""
    short: dict[str, str] = {}
    lines = []
    for now, what, execution_id, more in verdict.trace:
        who = ""
        if execution_id is not None:
            who = short.setdefault(execution_id, f"E{len(short) + 1}") + " "
        lines.append(f"{now:9.3f} {who}{what}: {'; '.join(more)}")
    legend = [f"{name} = {id}" for id, name in short.items()]
    return "\n".join([*legend, *lines])
