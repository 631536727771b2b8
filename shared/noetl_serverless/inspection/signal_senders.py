"""Who has sent the signals that ended waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.state import Signal, takes


def senders(log: Iterable[Event]) -> dict[int, str]:
    """The seq of each end of a wait -> who sent its signal, where the log says it. Signals of one name end waits in the
    order in which they came, of approvals those that are decisions. `log`: in logical order."""
    kept: defaultdict[str, list[Signal]] = defaultdict(list)
    approvals: set[str] = set()
    found = {}
    for event in log:
        payload = event.payload
        if event.type == e.SIGNAL_RECEIVED:
            name = payload["signal"]
            kept[name].append(Signal(name, payload.get("data"), payload.get("by")))
        elif event.type == e.WAIT_STARTED and payload.get("approval"):
            approvals.add(payload["wait"])
        elif event.type == e.WAIT_ENDED and (name := payload.get("signal")) is not None:
            sent = kept[name]
            taken = next((one for one in sent if takes(name, payload["wait"] in approvals, one)), None)
            if taken is None:
                continue
            sent.remove(taken)
            if taken.by is not None:
                found[event.seq] = text_of(taken.by)
    return found


def text_of(by: Mapping[str, Any]) -> str:
    if by.get("kind") == "callback":
        return f"somebody with the URL of keychain.{by.get('name')}"
    return f"{by.get('kind')} {by.get('name')}"
