"""Terraform's values in Python: plain data, and one for what is not known yet."""

from __future__ import annotations

from typing import Any

# {"attributes": {name: {"type", "required" or "optional", "computed"}}, "blocks": {name: {"nesting", "block"}}}
Block = dict[str, Any]


class Unknown:
    """A value that only the apply will tell."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()
