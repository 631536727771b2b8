"""Putting into the result store what is too large for an event, in spite of a store that stumbles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..errors import Problem
from ..ports import ResultStore
from ..protocol import ClaimedCommand
from ..results.offload import INLINE_LIMIT, externalise

TRIES = 3


class StoreFailed(Problem):
    status, code, title = 503, "result_store", "The result store does not answer"


async def put_away(
    data: Any,
    command: ClaimedCommand,
    store: ResultStore,
    *,
    part: str = "",
    select: Sequence[tuple[str, str]] = (),
    limit: int = INLINE_LIMIT,
) -> dict[str, Any]:
    """{"data"} or {"ref"}, as `externalise` gives it; StoreFailed when the store did not take it in three tries.

    `part` tells apart what one command puts away beside its result.
    """
    for left in reversed(range(TRIES)):
        try:
            return await externalise(
                data,
                execution_id=command.execution_id,
                step=command.step,
                suffix=f"{command.command_id}{part}",
                store=store,
                select=select,
                limit=limit,
            )
        except OSError as error:
            if not left:
                raise StoreFailed(f"the result could not be stored: {error}") from error
            await asyncio.sleep(0.1 * (TRIES - left))
    raise AssertionError
