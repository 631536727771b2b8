"""Who has sent the signals that ended waits."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from ..engine import events as e
from ..engine.events import Event


def senders(log: Iterable[Event]) -> dict[int, str]:
    """The seq of each end of a wait -> who sent its signal, where the log says it. Signals of one name end waits in the
    order in which they came. `log`: in logical order."""
    kept: defaultdict[str, deque[Mapping[str, Any] | None]] = defaultdict(deque)
    found = {}
    for event in log:
        if event.type == e.SIGNAL_RECEIVED:
            kept[event.payload["signal"]].append(event.payload.get("by"))
        elif event.type == e.WAIT_ENDED and (waiting := kept.get(event.payload.get("signal", ""))):
            by = waiting.popleft()
            if by is not None:
                found[event.seq] = _text(by)
    return found


def _text(by: Mapping[str, Any]) -> str:
    if by.get("kind") == "callback":
        return f"somebody with the URL of keychain.{by.get('name')}"
    return f"{by.get('kind')} {by.get('name')}"
