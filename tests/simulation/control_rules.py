"""What events of waits, pauses, compensation and restarts must keep to, found out from the events alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event

if TYPE_CHECKING:
    from .rules import Diary

Run = tuple[str, int]
Must = Callable[[bool, str, Any], None]
# of a wait that a signal has ended
REFUSED = "wait.rejected"


def read_control(diary: Diary, event: Event, must: Must) -> None:
    """`must(holds, rule, detail)`: of an event that changes something."""
    payload = event.payload
    match event.type:
        case e.TIMER_SET:
            diary.timers_due[payload["timer"]] = payload["due"]
            # the clock of who paused it may be another
            diary.timers_set[payload["timer"]] = max(event.at, diary.paused_at or 0)
        case e.CALL_PARKED if (due := payload.get("wait", {}).get("due")) is not None:
            diary.timers_due[f"{event.command_id}!{event.seq}"] = due
        case e.TIMER_FIRED:
            must(diary.paused_at is None, "a timer fired in a pause", f"{diary.id} {payload}")
        case e.PAUSED:
            must(diary.paused_at is None, "it was paused twice", f"{diary.id} {event}")
            diary.paused_at, diary.was_paused = event.at, True
            # who pauses it may have said so before the last of them was set
            diary.timers_set |= dict.fromkeys(diary.timers_set, event.at)
        case e.RESUMED:
            _go_on(diary, event, must)
        case e.SIGNAL_RECEIVED:
            id = payload.get("id")
            must(id is None or id not in diary.signal_ids, "a signal was taken twice", f"{diary.id} {payload}")
            diary.signal_ids.add(id)
            diary.signals.append((payload["signal"], payload.get("data")))
        case e.RESTARTED:
            diary.signals += [(signal["name"], signal["data"]) for signal in payload.get("signals", ())]
        case e.WAIT_STARTED:
            must(payload["wait"] not in diary.waits, "a wait began twice", f"{diary.id} {payload}")
            diary.waits[payload["wait"]] = (payload.get("signal"), bool(payload.get("fixed")))
            if payload.get("approval"):
                diary.approvals.add(payload["wait"])
            run = (event.step or "", event.generation or 0)
            diary.owners[payload["wait"]] = run
            # it is no longer open, and its worker has reported it
            if payload["resumes"]:
                diary.resuming[payload["wait"]] = run
        case e.WAIT_ENDED:
            _wait_ended(diary, event, must)
        case e.COMPENSATION_STARTED:
            must(not diary.is_undoing, "it begins twice to undo what was done", f"{diary.id} {payload}")
            diary.is_undoing = True
        case e.REUSED if event.generation is not None:
            step = event.step or ""
            diary.reused[step] = event.generation
            diary.begun |= {(step, generation) for generation in range(1, event.generation + 1)}


def signals_meet(diary: Diary, must: Must) -> None:
    """After a commit: no signal is kept that a wait is there for."""
    met = any(
        name == of and (wait not in diary.approvals or _is_decision(data))
        for name, data in diary.signals
        for wait, (of, _) in diary.waits.items()
    )
    must(not met, "a signal is kept, and a wait for it goes on", f"{diary.id} {diary.signals} {diary.waits}")


def drop_waits(diary: Diary, is_over: Callable[[Run], bool]) -> None:
    """Those of runs of steps that are over."""
    for name in [name for name in diary.waits if is_over(diary.owners[name])]:
        del diary.waits[name]
        diary.resuming.pop(name, None)


def _go_on(diary: Diary, event: Event, must: Must) -> None:
    """Each timer is due as much later as the pause has lasted, or as has passed of it since the timer was set; not the
    end of a wait until an instant."""
    if diary.paused_at is None:
        must(False, "it went on twice", f"{diary.id} {event}")
        return
    diary.paused_at = None
    for name, how in diary.timers.items():
        if how != "set":
            continue
        fixed = name in diary.waits and diary.waits[name][1]
        passed = 0 if fixed else max(0, event.at - diary.timers_set[name])
        diary.timers_due[name] += passed
        found = event.payload["timers"].get(name, diary.timers_due[name] if fixed else None)
        due = diary.timers_due[name]
        must(found == due, "the time of a pause counts", f"{diary.id} {name} is due at {found}, not at {due}")
        if name == e.DEADLINE:
            diary.due = due
        elif name in diary.steps_due:
            diary.steps_due[name] = due


def _wait_ended(diary: Diary, event: Event, must: Must) -> None:
    payload = event.payload
    name, what = payload["wait"], f"{diary.id} {event.payload}"
    must(name in diary.waits, "a wait ended twice", what)
    wanted, _ = diary.waits.pop(name, (None, False))
    signal = payload.get("signal")
    if signal is None:
        # one until an instant that was past has no timer
        is_past = name not in diary.timers and diary.timers_due.get(name, event.at + 1) <= event.at
        must(is_past or diary.timers.get(name) == "fired", "a wait ended before its time", what)
        return
    if diary.timers.get(name) == "set":
        diary.timers[name] = "dropped"
    must(signal == wanted, "a wait ended by another signal", what)
    is_approval = name in diary.approvals
    fitting = [one for one in diary.signals if one[0] == signal and (not is_approval or _is_decision(one[1]))]
    taken = next(iter(fitting), None)
    earlier = [
        other
        for other, (of, _) in diary.waits.items()
        if of == signal and _order(other) < _order(name)
        if other not in diary.approvals or (taken is not None and _is_decision(taken[1]))
    ]
    must(not earlier, "a signal ended a wait that was not the first", f"{what} {earlier}")
    must(taken is not None, "a signal ended two waits, or was never sent", what)
    if taken is not None:
        diary.signals.remove(taken)
        data, sent = payload.get("data"), taken[1]
        if isinstance(data, dict) and isinstance(sent, dict):
            # of an approval the engine says who has given it
            data, sent = ({key: value for key, value in one.items() if key != "by"} for one in (data, sent))
        is_right = data == sent or payload.get("error", {}).get("code") == REFUSED
        must(is_right, "a wait ended with the data of another signal", what)


def _is_decision(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("approved"), bool) and data.keys() <= {"approved", "comment"}


def _order(wait: str) -> int:
    """A wait is named for the event that it follows from."""
    return int(wait.rpartition("!")[2])
