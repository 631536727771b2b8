"""The definition of a tool of the catalog, checked and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import pointer_keys
from .document import Document
from .model import Playbook, Tool
from .plan import Plan, Task
from .resource import ToolDefinition

# the only step of the playbook that a definition is compiled as
STEP: Final = "call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """`document` has the shape of a playbook, whose only task is `task`; its places are those of the definition."""

    document: Document
    playbook: Playbook
    plan: Plan
    model: ToolDefinition

    @property
    def hash(self) -> str:
        """Of the whole definition, independent of its layout."""
        return self.plan.hash

    @property
    def task(self) -> Task:
        return self.plan.steps[STEP].tasks[0]

    @property
    def tool(self) -> Tool:
        return self.model.tool

    @property
    def names(self) -> frozenset[str]:
        """What its input may have."""
        return frozenset(properties_of(self.model.input))

    @property
    def is_open(self) -> bool:
        """Whether its input may have other names, too."""
        schema = self.model.input or {}
        return bool(schema.get("patternProperties")) or schema.get("additionalProperties", False) is not False


def properties_of(schema: Mapping[str, Any] | None) -> Mapping[str, Any]:
    found = (schema or {}).get("properties")
    return found if isinstance(found, Mapping) else {}


def pointer_path(pointer: str) -> tuple[str | int, ...]:
    """The path of a JSON pointer, whose numbers are indexes."""
    return tuple(int(part) if part.isdigit() else part for part in pointer_keys(pointer))
