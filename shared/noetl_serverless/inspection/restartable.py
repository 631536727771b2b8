"""How an execution ended that is to be restarted, and why it may not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..errors import Conflict

ENDS = frozenset({e.COMPLETED, e.FAILED, e.CANCELLED})
# how many steps a message or a warning names
MAX_NAMED = 20


def ended_with(execution_id: str, log: Sequence[Event]) -> Event:
    """The event that ended it. Raises Conflict if it has not ended, or is in quarantine."""
    end: Event | None = None
    dropped = False
    for event in log:
        if end is not None and e.QUARANTINED in end.payload and event.type in (e.RETRIED, e.CANCELLED):
            end = None
        dropped = dropped or event.type == e.DROPPED
        if end is None and event.type in ENDS:
            end = event
    if end is None:
        raise Conflict(
            f"execution {execution_id} has not ended: cancel it first, with `noetls cancel {execution_id}` or "
            f"POST /api/executions/{execution_id}/cancel"
        )
    if any(event.type == e.COMPENSATION_STARTED for event in log):
        compensation = (end.payload.get("error") or {}).get("compensation")
        undone_all = isinstance(compensation, Mapping) and not compensation.get("failed")
        raise Conflict(
            f"execution {execution_id} cannot go on: {_undone(compensation)}. Start it anew, with `noetls run --again "
            f"{execution_id}` or POST /api/executions/{execution_id}/rerun"
            f"{'' if undone_all else ', once what was not undone is settled by hand'}"
        )
    if e.QUARANTINED in end.payload and not dropped:
        raise Conflict(
            f"execution {execution_id} is in quarantine: retry it there, or drop it from quarantine and restart it then"
        )
    return end


def _undone(compensation: Any) -> str:
    """What has become of what it had done."""
    if not isinstance(compensation, Mapping):
        return "it was cancelled while it undid what it had done, and how far it came is in its log"
    done, failed = compensation.get("done") or [], compensation.get("failed") or []
    undone = f"it has undone {named(list(dict.fromkeys(done)))}" if done else "it has undone nothing"
    if not failed:
        return f"{undone}, and so all that it had done"
    of_each = dict.fromkeys(f"{item.get('step')} ({item.get('code')})" for item in failed)
    return f"{undone}; not undone, because the compensation failed: {named(list(of_each))}"


def named(steps: Sequence[str]) -> str:
    more = len(steps) - MAX_NAMED
    return ", ".join(steps[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
