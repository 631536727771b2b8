"""What Lambda provides to a function about the current invocation."""

from __future__ import annotations

from typing import Protocol

from .. import garbage_collection

# reserved time: the answer must be sent before Lambda ends the process
MARGIN_SECONDS = 2.0


class Context(Protocol):
    """The part of Lambda's context that is used here."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


class LambdaHost:
    """`begin` is called at the start of each invocation."""

    def __init__(self, margin: float = MARGIN_SECONDS) -> None:
        self._margin = margin
        self._context: Context | None = None

    def start_invocation(self, context: Context) -> None:
        if self._context is None:
            garbage_collection.tune()
        self._context = context

    def remaining(self) -> float:
        """Seconds that are left, minus the margin."""
        if self._context is None:
            return 0.0
        return max(0.0, self._context.get_remaining_time_in_millis() / 1000 - self._margin)
