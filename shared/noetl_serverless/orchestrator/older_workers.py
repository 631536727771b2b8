"""Commands for workers of the previous release, which do not know references in ctx, nor what a suspended item has
set."""

from __future__ import annotations

import logging
from typing import Any

from ..engine import events as e
from ..engine.state import OF_CTX
from ..errors import Problem
from ..limits import ANSWER_BYTES
from ..protocol import ClaimedCommand
from .payloads import Payloads

logger = logging.getLogger(__name__)


class OlderWorkers:
    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads

    async def without_references(self, command: ClaimedCommand) -> ClaimedCommand | None:
        """The command with everything it reads of ctx as values. None if these are too large for a response or cannot
        be read now, or if it continues a frame with what its items have set: the command then waits for a newer
        worker."""
        if command.frame is not None and e.OWN_SET in (command.resume or {}):
            return None
        command = _not_speculative(command)
        refs = command.scope.get(e.CTX_REFS)
        if not refs:
            return command
        size = len(command.model_dump_json()) + sum(ref.get("meta", {}).get("bytes", 0) for ref in refs.values())
        if size > ANSWER_BYTES:
            return None
        try:
            values = {name: await self._payloads.load_value(ref) for name, ref in refs.items()}
        except Problem as problem:
            names = {"execution_id": command.execution_id, "command_id": command.command_id}
            logger.warning("a command was released for a newer worker: %s", problem.detail, extra=names)
            return None
        other_fields = {name: value for name, value in command.scope.items() if name != e.CTX_REFS}
        return command.model_copy(update={"scope": {**other_fields, "ctx": {**other_fields.get("ctx", {}), **values}}})


def _not_speculative(command: ClaimedCommand) -> ClaimedCommand:
    """Without `ahead` if ctx has values by reference: an older worker would decide without them."""
    state: dict[str, Any] = {} if command.ahead is None else command.ahead.state
    if any(name.startswith(OF_CTX) for name in state.get("outcomes", {})):
        return command.model_copy(update={"ahead": None})
    return command
