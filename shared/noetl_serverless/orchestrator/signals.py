"""What a signal may hold, and how many an execution keeps."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..engine.events import Event
from ..engine.limits import size_of
from ..engine.state import Signal, State
from ..errors import Conflict, InvalidRequest
from ..limits import INLINE_BYTES, SIGNALS, SIGNALS_BYTES
from .start import validated_payload


def validated_signal(data: Any) -> Any:
    """Raises InvalidRequest for what cannot be stored or is too large."""
    value = validated_payload(data)
    if (size := size_of(value)) > INLINE_BYTES:
        raise InvalidRequest(f"the data of a signal has {size} bytes; the limit is {INLINE_BYTES}: send where it is")
    return value


def check_signal(fact: Event, state: State) -> None:
    """Raises Conflict if the execution cannot keep one more signal."""
    sent = Signal(fact.payload["signal"], fact.payload.get("data"))
    if any(wait.takes(sent) for wait in state.waits.values()):
        return
    if len(state.signals) >= SIGNALS:
        raise Conflict(f"the execution keeps {SIGNALS} signals that no wait has taken; it takes no more")
    kept = sum(size_of(asdict(signal)) for signal in state.signals)
    if kept + size_of(fact.payload) > SIGNALS_BYTES:
        raise Conflict(
            f"the execution keeps {kept} bytes of signals that no wait has taken; the limit is {SIGNALS_BYTES}"
        )
