"""The differences between two versions of the catalog: of their texts and, for playbooks, of their steps."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from typing import Final

from ..errors import InvalidPlaybook
from ..inspection.changes import Change, arc_changes, parameter_changes
from ..playbook.grammar import EXECUTABLE
from ..playbook.plan import Plan
from ..playbook.scripts import InvalidScripts, split
from ..store.catalog import CatalogVersion
from ..tools.plans import load_plan
from .models.catalog_changes import PartChange, StepChange, VersionDifference

# lines around a difference
CONTEXT_LINES: Final = 3


def difference(base: CatalogVersion, entry: CatalogVersion) -> VersionDifference:
    return VersionDifference(
        path=entry.path,
        kind=entry.kind,
        base=base.version,
        version=entry.version,
        text="".join(_text(base, entry)),
        steps=_steps(base, entry),
    )


def _text(base: CatalogVersion, entry: CatalogVersion) -> Iterator[str]:
    (one, own), (other, others) = _parts(base.content), _parts(entry.content)
    yield from _lines(one, other, f"{base.path} version {base.version}", f"{entry.path} version {entry.version}")
    for name in sorted(own.keys() | others.keys()):
        # scripts, and tools of the catalog, as they were when each was registered
        yield from _lines(own.get(name, ""), others.get(name, ""), name, name)


def _parts(content: str) -> tuple[str, dict[str, str]]:
    try:
        return split(content)
    except InvalidScripts:
        return content, {}


def _lines(one: str, other: str, before: str, after: str) -> Iterator[str]:
    for line in unified_diff(one.splitlines(), other.splitlines(), before, after, n=CONTEXT_LINES, lineterm=""):
        yield f"{line}\n"


def _steps(base: CatalogVersion, entry: CatalogVersion) -> list[StepChange] | None:
    if not {base.kind, entry.kind} <= EXECUTABLE:
        return None
    try:
        one, other = load_plan(base.content), load_plan(entry.content)
    except InvalidPlaybook:
        return None
    return list(_changes(one, other))


def _changes(base: Plan, plan: Plan) -> Iterator[StepChange]:
    for name in dict.fromkeys([*base.steps, *plan.steps]):
        one, other = base.steps.get(name), plan.steps.get(name)
        if one is None or other is None:
            yield StepChange(step=name, change="added" if one is None else "removed")
        elif parts := [_part(change) for change in (*parameter_changes(one, other), *arc_changes(one, other))]:
            yield StepChange(step=name, change="changed", parts=parts)


def _part(change: Change) -> PartChange:
    return PartChange(where=change.where, before=change.recorded, after=change.now)
