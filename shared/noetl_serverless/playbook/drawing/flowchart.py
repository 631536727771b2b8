"""What a drawing of a playbook shows: its steps as nodes, its arcs as edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ..plan import Arc, Plan, Step, Task
from ..template import Template, truthy
from ..template_error import TemplateError

# of a condition beside its arc; all of it is in the drawing's tooltip
LABEL_CHARACTERS: Final = 40
# kinds of tools named in a node
NAMED_KINDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`lines` are what stands in it below its name."""

    name: str
    lines: tuple[str, ...]
    is_entry: bool = False
    is_final: bool = False
    is_loop: bool = False
    is_join: bool = False
    is_reached: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The arcs from one step to another; `condition` is empty if one of them has none, and ends with `else` if that one
    comes after others, of which only one is taken."""

    source: str
    target: str
    condition: str
    is_back: bool
    handles_failure: bool

    @property
    def label(self) -> str:
        return shortened(self.condition, LABEL_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Flowchart:
    """In the order of the document."""

    title: str
    nodes: tuple[Node, ...] = field(default=())
    edges: tuple[Edge, ...] = field(default=())


def flowchart(plan: Plan) -> Flowchart:
    starts = [plan.entry, *([plan.final_step] if plan.final_step else [])]
    reached = set(starts).union(*(plan.reach[start] for start in starts))
    return Flowchart(
        plan.name,
        tuple(_node(plan, step, step.name in reached) for step in plan.workflow.values()),
        tuple(edge for step in plan.workflow.values() for edge in _edges(step)),
    )


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _node(plan: Plan, step: Step, is_reached: bool) -> Node:
    sources = plan.sources.get(step.name, frozenset())
    kinds = list(dict.fromkeys(_kind(task) for task in step.tasks))
    lines = [", ".join(kinds[:NAMED_KINDS]) + (", …" if len(kinds) > NAMED_KINDS else "")]
    if step.is_pipeline and len(step.tasks) > 1:
        lines[0] = f"{len(step.tasks)} tasks: {lines[0]}"
    if step.loop is not None:
        lines.append(f"loop: each {step.loop.iterator}, {_pace(step)}")
    if len(sources) > 1:
        lines.append(f"join of {len(sources)}")
    if step.admit:
        lines.append("only if admitted")
    if step.concurrency is not None:
        lines.append(f"{step.concurrency.limit} at once in all executions")
    if step.rate is not None:
        lines.append(f"{step.rate.limit} in {step.rate.per:g} s")
    if step.compensation is not None:
        undo = plan.steps[step.compensation]
        lines.append(f"undone by {', '.join(dict.fromkeys(_kind(task) for task in undo.tasks))}")
    if step.name == plan.final_step:
        lines.append("runs last")
    return Node(
        name=step.name,
        lines=tuple(lines),
        is_entry=step.name == plan.entry,
        is_final=step.name == plan.final_step,
        is_loop=step.loop is not None,
        is_join=len(sources) > 1,
        is_reached=is_reached,
    )


def _kind(task: Task) -> str:
    """Of a tool of the catalog, its path."""
    return task.kind if task.interface is None else f"tool {task.interface.path}"


def _pace(step: Step) -> str:
    assert step.loop is not None
    width = step.loop.max_in_flight
    if step.loop.mode == "sequential":
        return "one by one"
    return "in parallel" if isinstance(width, Template) else f"{width} at once"


def _edges(step: Step) -> list[Edge]:
    grouped: dict[tuple[str, bool], list[Arc]] = {}
    for arc in step.arcs:
        grouped.setdefault((arc.target, arc.back), []).append(arc)
    return [
        Edge(
            source=step.name,
            target=target,
            condition=_condition(step, arcs),
            is_back=is_back,
            handles_failure=all(arc.handles_failure and not _is_of_success(arc) for arc in arcs),
        )
        for (target, is_back), arcs in grouped.items()
    ]


def _is_of_success(arc: Arc) -> bool:
    """Whether its condition, which asks how the step has ended, holds if it has ended well."""
    output: dict[str, Any] = {"status": "ok", "data": {}, "error": None}
    for name in ("call.done", "loop.done"):
        try:
            if arc.when is not None and truthy(
                arc.when.render({"output": output, "event": {"name": name}, "error": None})
            ):
                return True
        except TemplateError:
            # it reads more than that
            continue
    return False


def _condition(step: Step, arcs: list[Arc]) -> str:
    always = next((arc for arc in arcs if arc.when is None), None)
    if always is None:
        return " or ".join(_expression(arc) for arc in arcs)
    if step.mode != "exclusive" or always.index == 0:
        return ""
    before = " or ".join(_expression(arc) for arc in arcs if arc.index < always.index)
    return f"{before}, else" if before else "else"


def _expression(arc: Arc) -> str:
    """The expression, without the marks of the template."""
    text = " ".join(arc.when.source.split()) if arc.when is not None else ""
    is_lone = text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1
    return text[2:-2].strip("- ") if is_lone else text
