"""What may be sent by the name of an approval, and as a decision: to an approval only decisions are sent, to a signal
none, and one that is to wait for its question only as long as none has been decided."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from ..engine.state import State, takes
from ..errors import Conflict
from ..playbook.approvals import fault_of
from ..playbook.awaited import Awaited


def wanted(state: State, awaited: Awaited | None, name: str) -> Literal["decision", "value"] | None:
    """What the open waits for a name take; if there is none, what those take for which the playbook has this name. None
    if they take either, or that is not known. `awaited`: of the playbook, if it is known."""
    open_waits = [wait.approval for wait in state.waits.values() if wait.signal == name]
    if open_waits:
        # a decision ends the first one
        return "decision" if all(open_waits) else None if open_waits[0] else "value"
    if awaited is None or name not in awaited.names:
        return None
    return "decision" if awaited.is_approval(name) else None if name in awaited.approvals else "value"


def check_unanswered(state: State, awaited: Awaited | None, name: str, data: Any, *, is_decision: bool) -> None:
    """Raises Conflict for a decision that no wait takes now, if one of its name has been decided, or is kept for its
    question: it would decide on what nobody has seen. `is_decision`: whether it is sent as one, not as a value that
    looks like one."""
    answered = state.answered.get(name)
    kept = next((signal for signal in state.signals if takes(name, True, signal)), None)
    if (answered is None and kept is None) or fault_of(data) is not None:
        return
    if any(wait.signal == name for wait in state.waits.values()):
        return
    if not is_decision and awaited is not None and name in awaited.signals:
        return
    if kept is not None:
        if not is_decision and (awaited is None or not awaited.is_approval(name)):
            # the name may be that of a signal
            return
        by = _sender(kept.by)
        raise Conflict(f"'{name}' has been answered already{by}; the answer is kept for the question, and this one not")
    assert answered is not None
    at = datetime.fromtimestamp(answered["at"] / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    by = _sender(answered.get("by"))
    raise Conflict(
        f"'{name}' has been answered already, at {at}{by}; no step waits for it now, and nothing has been kept. If it "
        "is asked again, answer then"
    )


def _sender(by: Mapping[str, Any] | None) -> str:
    if by is None:
        return ""
    from ..inspection.signal_senders import text_of

    return f" by {text_of(by)}"
