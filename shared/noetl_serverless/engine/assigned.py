"""What `set` assigns: values, and references to values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, Any]
Refs = dict[str, dict[str, Any]]


@dataclass(slots=True)
class SetValues:
    """Each name is in one of the two."""

    values: Values = field(default_factory=dict)
    refs: Refs = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.refs)

    def update(self, later: SetValues) -> None:
        self.values, self.refs = later.merged_into(self.values, self.refs)

    def merged_into(self, values: Mapping[str, Any], refs: Mapping[str, dict[str, Any]]) -> tuple[Values, Refs]:
        """What is in effect once this is set over `values` and `refs`."""
        return (
            {**{name: value for name, value in values.items() if name not in self.refs}, **self.values},
            {**{name: ref for name, ref in refs.items() if name not in self.values}, **self.refs},
        )
