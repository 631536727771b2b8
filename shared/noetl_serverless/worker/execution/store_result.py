"""Storing what is too large for an event in a result store, with retries while the store is unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...limits import INLINE_BYTES
from ...protocol import ClaimedCommand
from ...results.offload import externalise
from ...results.retry import retry_while_away
from ...results.stores import ResultStores


async def store_result(
    data: Any,
    command: ClaimedCommand,
    stores: ResultStores,
    *,
    part: str = "",
    select: Sequence[tuple[str, str]] = (),
    limit: int = INLINE_BYTES,
    label: str = "the result",
) -> dict[str, Any]:
    """{"data"} or {"ref"}, as from `externalise`. Raises StoreFailed when the store is unavailable for too long.

    `part` distinguishes what one command stores besides its result; `label` names the value in an error.
    """
    return await retry_while_away(
        lambda: externalise(
            data,
            execution_id=command.execution_id,
            step=command.step,
            suffix=f"{command.command_id}{part}",
            stores=stores,
            select=select,
            limit=limit,
        ),
        f"{label} could not be stored",
    )
