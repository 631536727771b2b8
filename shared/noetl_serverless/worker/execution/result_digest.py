"""The digests of results, of which some have tables."""

from __future__ import annotations

import asyncio
from typing import Any

from ...engine.digest import has_volatile, stable_digest
from ...tables.listed import has_table
from ...tables.value import described


async def result_digest(value: Any) -> str | None:
    """As `stable_digest`. The contents of tables are hashed only where there is one."""
    if has_volatile(value) and has_table(value):
        value = await asyncio.to_thread(described, value)
    return stable_digest(value)
