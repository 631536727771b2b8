"""The templates of a plan, each with what it can read at its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .grammar import AUTH_FIELDS
from .plan import Plan, Step, Task
from .scope import LOOP_VARIABLES
from .template import SqlTemplate, Template, Tree
from .trees import templates_in

# reserved names, and others, that only loops give; all but `loop` only to their items
_OF_LOOPS = frozenset({"iter", "loop"})
_OF_ITEMS = frozenset({"loop_index", "loop_event_id"})
_OF_TASKS = frozenset({"step", "results", "_prev", "_task", "_attempt"})
_OF_ENDS = frozenset({"output", "error"})
_OF_ARCS = frozenset({"event"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The place of some templates of one step."""

    step: Step
    templates: tuple[Template | SqlTemplate, ...]
    # reserved names that have no value here
    absent: frozenset[str]
    # labels of tasks whose results can be there, names under which results are collected, names of the loop
    names: frozenset[str] = frozenset()
    # keys of `iter`
    iter: frozenset[str] = frozenset()
    # keys of `step`
    locals: frozenset[str] = frozenset()
    # the step itself has ended
    ended: bool = field(default=False)


def sites(plan: Plan) -> Iterator[Site]:
    for step in plan.steps.values():
        yield from _engine_sites(step)
        yield from _worker_sites(step)


def assigned(plan: Plan, scope: str) -> set[str]:
    """The keys of a scope (`ctx`, `iter`, `step`) that anything in the plan sets."""
    return {key for step in plan.steps.values() for key in _assigned_by(step, scope)}


def _engine_sites(step: Step) -> Iterator[Site]:
    before: list[Tree] = [rule.when for rule in step.admit]
    if step.loop is not None:
        before += [step.loop.items, step.loop.max_in_flight]
    before += [limit.key for limit in (step.concurrency, step.rate) if limit is not None]
    yield Site(step=step, templates=_of(before), absent=_OF_LOOPS | _OF_TASKS | _OF_ENDS | _OF_ARCS)
    after: list[Tree] = [item.value for item in step.set]
    for arc in step.arcs:
        after += [arc.when, *(item.value for item in arc.set)]
    absent = _OF_TASKS | ({"iter"} if step.loop is not None else _OF_LOOPS)
    yield Site(step=step, templates=_of(after), absent=absent, ended=True)


def _worker_sites(step: Step) -> Iterator[Site]:
    loop = frozenset(_iter_keys(step))
    loop_names = _OF_ITEMS if step.loop is not None else frozenset()
    absent = _OF_ARCS if step.loop is not None else _OF_ARCS | _OF_LOOPS
    if loop:
        # also outside of a loop, if its rules set any of it
        absent -= {"iter"}
    yield Site(step=step, templates=_of([step.input]), absent=absent | _OF_ENDS, names=loop_names, iter=loop)
    own = frozenset(_assigned_by(step, "step"))
    for index, task in enumerate(step.tasks):
        before, after = _labels(step, index)
        for trees, names in _configuration(step, task):
            yield Site(
                step=step,
                templates=_of(trees),
                absent=absent | _OF_ENDS,
                names=before | loop_names | names,
                iter=loop,
                locals=own,
            )
        yield Site(
            step=step, templates=_of(_rule_trees(task)), absent=absent, names=after | loop_names, iter=loop, locals=own
        )


def _configuration(step: Step, task: Task) -> Iterator[tuple[list[Tree], frozenset[str]]]:
    """Parts of a task's configuration with the names of the input that each can read."""
    config = {**task.config} if isinstance(task.config, dict) else {}
    own = config.pop("input", None)
    of_step = _keys(step.input) | step.secret_input.keys()
    yield [own], of_step
    if task.interface is not None:
        # of its own templates the definition was checked; these are the caller's
        yield [*(config[key] for key in sorted(AUTH_FIELDS & config.keys())), task.timeout], of_step | _keys(own)
        return
    yield [*config.values(), task.timeout], of_step | _keys(own)


def _keys(tree: Tree) -> frozenset[str]:
    return frozenset(tree) if isinstance(tree, dict) else frozenset()


def _labels(step: Step, index: int) -> tuple[frozenset[str], frozenset[str]]:
    """The names of results that can be there when the task begins, and when its rules are read."""
    names = [task.name for task in step.tasks] if step.is_pipeline else []
    collected = {task.accumulate.name for task in step.tasks if task.accumulate is not None}
    if any(rule.do in ("jump", "retry") for task in step.tasks for rule in task.rules):
        return frozenset({*names, *collected}), frozenset({*names, *collected})
    return frozenset({*names[:index], *collected}), frozenset({*names[: index + 1], *collected})


def _iter_keys(step: Step) -> Iterator[str]:
    if step.loop is not None:
        yield from (step.loop.iterator, *LOOP_VARIABLES)
    yield from _assigned_by(step, "iter")


def _assigned_by(step: Step, scope: str) -> Iterator[str]:
    assignments = [
        *step.set,
        *(item for arc in step.arcs for item in arc.set),
        *(item for task in step.tasks for rule in task.rules for item in rule.set),
    ]
    yield from (item.key for item in assignments if item.scope == scope)


def _rule_trees(task: Task) -> list[Tree]:
    trees: list[Tree] = []
    for rule in task.rules:
        trees += [rule.when, rule.attempts, rule.delay, rule.max_delay, *(item.value for item in rule.set)]
    return trees


def _of(trees: list[Tree]) -> tuple[Template | SqlTemplate, ...]:
    return tuple(template for tree in trees for template in templates_in(tree))
