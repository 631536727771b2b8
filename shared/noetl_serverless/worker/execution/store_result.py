"""Storing what is too large for an event in a result store, with retries while the store is unavailable."""

from __future__ import annotations

from typing import Any

from ...playbook.views import FIELD
from ...protocol import ClaimedCommand
from ...results.offload import USUAL, Output, Place, externalise
from ...results.retry import retry_while_away
from ...results.unfinished import BeginWrite
from ...tables.mapped import MappedFile
from ...tables.table import Table
from .toolbox import Toolbox


async def store_result(
    data: Any,
    command: ClaimedCommand,
    toolbox: Toolbox,
    *,
    part: str = "",
    output: Output = USUAL,
    label: str = "the result",
    begin: BeginWrite | None = None,
    written: MappedFile | None = None,
) -> dict[str, Any]:
    """{"data"} or {"ref"}, as from `externalise`. Raises StoreFailed when the store is unavailable for too long.

    A table that is passed on as it was read is not stored again. `part` distinguishes what one command stores besides
    its result; `label` names the value in an error; `begin`, `written`: as of `externalise`.
    """
    if (ref := _read_before(data)) is not None:
        return {"ref": ref}
    return await _externalised(data, command, toolbox, part, output, label, begin, written)


async def store_part(
    value: Any, command: ClaimedCommand, toolbox: Toolbox, *, part: str, output: Output = USUAL, label: str
) -> dict[str, Any]:
    """The reference to a value that is stored in any case, also a table that is stored elsewhere already."""
    ref: dict[str, Any] = (await _externalised(value, command, toolbox, part, output, label))["ref"]
    return ref


async def _externalised(
    data: Any,
    command: ClaimedCommand,
    toolbox: Toolbox,
    part: str,
    output: Output,
    label: str,
    begin: BeginWrite | None = None,
    written: MappedFile | None = None,
) -> dict[str, Any]:
    # one place for all tries
    place = Place(execution_id=command.execution_id, step=command.step, suffix=f"{command.command_id}{part}")
    return await retry_while_away(
        lambda: externalise(data, place, toolbox.stores, output, toolbox.files, begin, written),
        f"{label} could not be stored",
    )


def _read_before(data: Any) -> dict[str, Any] | None:
    """The reference to a table, if it was read by one that can name it: as the whole result, or one of its fields."""
    if not isinstance(data, Table) or data.origin is None:
        return None
    ref, place = data.origin
    if not place:
        return dict(ref)
    return {**ref, FIELD: place[0]} if len(place) == 1 and isinstance(place[0], str) and FIELD not in ref else None
