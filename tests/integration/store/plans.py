"""What a statement reads, as PostgreSQL tells it."""

from __future__ import annotations

import json
from typing import Any

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) "


def top_of(plan: Any) -> dict[str, Any]:
    """The outermost node of what EXPLAIN gave."""
    top: dict[str, Any] = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return top


def pages_of(plan: Any) -> int:
    top = top_of(plan)
    return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])
