"""The progress of an execution, read from its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..engine.events import IGNORED, QUARANTINED, REPORTS, is_deadline
from ..inspection.event_text import error_text
from ..inspection.failed_items import MAX_ITEMS, FailedItems
from ..inspection.limit_text import limits_text
from ..inspection.quarantine_periods import QuarantinePeriods
from ..inspection.runs import CommandRun, run_of, started_at
from .deferred_attempts import DeferredAttempts
from .folding import Folded, folded
from .output import table
from .waits import Wait, Waits

if TYPE_CHECKING:
    from rich.console import RenderableType

# waits shorter than this, in ms, are not shown
MIN_WAIT_MS = 10
# runs with failed attempts that are kept for one step
MAX_FAILURES = 20
# the status of a step after an event, as far as the log shows it
STATUS = {"command.issued": "running", "timer.set": "delayed", "child.started": "parked"}
ENDS = frozenset({"playbook.completed", "playbook.failed", "execution.cancelled"})
# reports that end a command; other reports defer it
COMMAND_ENDS = frozenset({"call.done", "call.error", "frame.committed"})
COLUMNS = ("", "step", "status", "items", "time", "queued", "waited", "ran", "failed attempts")
FOLDED = "⋮"
MARKS = {"running": "…", "done": "✓", "failed": "✗", "skipped": "–", "stopped": "■", "reused": "✓"}


@dataclass
class StepRow:
    """One generation of a step. Times are seconds since 1970."""

    name: str
    generation: int
    state: str = "running"
    began: float = 0.0
    ended: float | None = None
    items: int | None = None
    # over a cursor, whose items are not known before they are claimed
    is_cursor: bool = False
    items_done: int = 0
    items_failed: int = 0
    error: str = ""
    # {exception, traceback, line} of its Python code
    code_error: Mapping[str, Any] | None = None
    # while it has not ended: queued, running, paused, delayed, parked or waiting; what keeps it waiting, if that is
    # known; and whether quarantine has stopped it
    status: str = "running"
    detail: str = ""
    is_quarantined: bool = False
    # whether it is known which arcs were taken at its end
    routed: bool = False
    # sums over its commands; None while nothing is known
    queued_ms: float | None = None
    run_ms: float | None = None
    # time that its commands waited in a worker: for the next attempt, or for their turn
    waited_ms: float = 0.0
    # the first MAX_FAILURES runs of its commands with failed attempts or lost leases
    failures: list[CommandRun] = field(default_factory=list)
    failed: int = 0
    # of a loop
    failed_items: FailedItems = field(default_factory=FailedItems)

    def duration(self, now: float) -> float:
        return max(0.0, (self.ended if self.ended is not None else now) - self.began)

    def end(self, state: str, at: float) -> bool:
        """End the step; False if it had ended already."""
        if self.state != "running":
            return False
        self.state, self.ended = state, at
        return True

    def add(self, run: CommandRun) -> None:
        if run.queued_ms is not None:
            self.queued_ms = (self.queued_ms or 0) + run.queued_ms
        if run.run_ms is not None:
            self.run_ms = (self.run_ms or 0) + run.run_ms
        self.waited_ms += run.waited_ms
        self.failed += run.failed
        if run.failed and len(self.failures) < MAX_FAILURES:
            self.failures.append(run)

    def fail(self, error: str) -> None:
        """Mark as failed a step that ended well, but whose arcs or `set` could not be evaluated."""
        self.state, self.error = "failed", error

    @property
    def label(self) -> str:
        if self.state != "running":
            return self.state
        return "stopped" if self.is_quarantined else self.status

    @property
    def mark(self) -> str:
        return MARKS["stopped" if self.is_quarantined and self.state == "running" else self.state]

    @property
    def title(self) -> str:
        return f"{self.name} (run {self.generation})" if self.generation > 1 else self.name

    @property
    def count(self) -> int | None:
        """The items of its loop, of a cursor those that have ended; None for a step without a loop."""
        return self.items_done if self.is_cursor else self.items

    @property
    def loop(self) -> str:
        if self.items is None:
            return ""
        failed = f", {self.items_failed} failed" if self.items_failed else ""
        return f"{self.items_done}{failed}" if self.is_cursor else f"{self.items_done}/{self.items}{failed}"


class Progress:
    """Reads pages of events in order and keeps a row for each run of a step. `most`: failed items shown of one loop."""

    def __init__(self, max_failed_items: int | None = MAX_ITEMS) -> None:
        self._max_failed_items = max_failed_items
        self.rows: dict[tuple[str, int], StepRow] = {}
        self.periods = QuarantinePeriods()
        # commands that only render a loop's collection: their end is not the end of the step
        self._opening: set[str] = set()
        # command id -> when it was issued, in ms since 1970
        self._issued: dict[str, int] = {}
        self._deferred = DeferredAttempts()
        self._waits = Waits()
        # steps that arcs have led to
        self._reached_steps: set[str] = set()
        self.status = "RUNNING"
        # whether what has been done is being undone
        self.is_compensating = False
        # the event by which it was paused, while it is
        self.paused: Mapping[str, Any] | None = None
        # the event by which it was dropped from quarantine
        self.dropped: Mapping[str, Any] | None = None
        # seconds since 1970: of the last event, and of the end; 0 while there is none
        self.last = 0.0
        self.ended = 0.0

    def apply(self, events: Iterable[Mapping[str, Any]]) -> list[StepRow]:
        """Read events; returns the rows of the steps that they ended."""
        ended = []
        for event in events:
            at = round(1000 * seconds(event["timestamp"]))
            # a fact that was kept in quarantine has the time at which it arrived
            at = self.periods.read(event["event_type"], event["seq"], at, event.get("payload") or {})
            self.last = at / 1000
            row = self._row(event)
            wait = self._waits.read(event)
            if row is not None:
                self._time(row, event, at)
                if wait is not None:
                    self._wait(row, event, wait)
            if row is not None and self._apply(row, event, wait):
                ended.append(row)
            self._route(event)
            self._status(event)
            if (blamed := self._failed_by_routing(event)) is not None and blamed not in ended:
                ended.append(blamed)
        return ended

    def steps(self, now: float | None = None, *, whole: bool = False) -> RenderableType:
        """A table of the steps. Turns of a cycle are folded, unless `whole`."""
        at = self.last if now is None else now
        rows = [row for row in self.rows.values() if row.state != "skipped"]
        shown = rows if whole else folded(rows)
        cells = [_folded_cells(row, at) if isinstance(row, Folded) else _cells(row, at) for row in shown]
        # usually nothing has waited, and the column is left out
        kept = [index for index, name in enumerate(COLUMNS) if name != "waited" or any(row[index] for row in cells)]
        return table([COLUMNS[index] for index in kept], [[row[index] for index in kept] for row in cells])

    def set_statuses(self, under_way: Iterable[Mapping[str, Any]]) -> None:
        """Set the status of what has not ended from the REST answer: the log alone does not show it."""
        for step in under_way:
            key = (str(step["step"]), int(step["generation"] or 0))
            row = self._begin(key)
            row.status = str(step["status"])
            row.detail = self._detail(key, step)

    def _detail(self, run: tuple[str, int], step: Mapping[str, Any]) -> str:
        match step["status"]:
            case "queued":
                return limits_text(step.get("limits") or ())
            case "delayed" | "parked":
                until = f"until {step['due_at']}" if step.get("due_at") else ""
                return ", ".join(filter(None, (self._waits.text(run), until)))
        return ""

    def new_waits(self) -> list[Wait]:
        """The waits for signals that have begun since this was called, and have not ended."""
        return self._waits.new()

    def details(self) -> list[str]:
        """What keeps steps waiting, one line for each."""
        rows = [row for row in self.rows.values() if row.detail and row.label == row.status]
        return [f"{row.title} is {row.status}: {row.detail}" for row in rows]

    def failed_items(self) -> list[dict[str, Any]]:
        """{step, generation, count, failed, items: [{index, error, attempts}], unnamed: [{start, end, failed}]} for
        each run of a loop with failed items: `failed` of `count` items failed. For `items` and `unnamed` see
        `FailedItems`."""
        return [
            {
                "step": row.name,
                "generation": row.generation,
                "count": row.count,
                "failed": row.failed_items.count,
                "items": row.failed_items.named,
                "unnamed": row.failed_items.unnamed,
            }
            for row in self.rows.values()
            if row.failed_items.count
        ]

    def code_error(self, error: Any) -> Mapping[str, Any] | None:
        """{exception, traceback, line} of the Python code with which the last run of the step failed that `error`, the
        execution's, names."""
        step = error.get("step") if isinstance(error, Mapping) else None
        row = next((row for row in reversed(self.rows.values()) if row.name == step), None)
        return None if row is None or row.state != "failed" else row.code_error

    def _row(self, event: Mapping[str, Any]) -> StepRow | None:
        name, generation = event.get("step"), event.get("generation")
        if not name or generation is None:
            # not about a run: a step that can no longer be reached, or that failed the execution
            return None
        if is_deadline(event["event_type"], event.get("payload") or {}):
            return None
        return self._begin((str(name), int(generation)))

    def _begin(self, key: tuple[str, int]) -> StepRow:
        if key not in self.rows:
            self.rows[key] = StepRow(*key, began=self.last, failed_items=FailedItems(self._max_failed_items))
        return self.rows[key]

    def _time(self, row: StepRow, event: Mapping[str, Any], at: int) -> None:
        """Add the times of a command. A loop has many commands, and a deferred one does not make the loop delayed."""
        kind, command = event["event_type"], str(event.get("command_id"))
        if kind == "command.issued":
            self._issued[command] = at
        elif kind in REPORTS:
            meta = (event.get("payload") or {}).get("meta")
            issued = self._issued.pop(command, None)
            run = run_of(meta, at, None if issued is None else self.periods.queued_since(issued, started_at(meta)))
            row.add(
                self._deferred.without_shown(command, run)
                if kind in COMMAND_ENDS
                else self._deferred.remember(command, run)
            )
        if row.items is None and not self._waits.is_timer(event):
            row.status = STATUS.get(kind, row.status)

    def _wait(self, row: StepRow, event: Mapping[str, Any], wait: Wait) -> None:
        """A step parks for a signal, and is delayed until a time."""
        if event["event_type"] == "wait.started" and row.items is None:
            row.status = "delayed" if wait.signal is None else "parked"
        row.detail = self._waits.text(wait.run)

    def _apply(self, row: StepRow, event: Mapping[str, Any], wait: Wait | None) -> bool:
        """Apply an event to its row; returns whether it ended the step."""
        payload = event.get("payload") or {}
        kind = event["event_type"]
        match kind:
            case "command.issued":
                if payload.get("kind") == "open":
                    self._opening.add(str(event.get("command_id")))
            case "loop.opened":
                row.is_cursor = "cursor" in payload
                row.items = int(payload.get("count") or 0)
            case "frame.committed" | "frame.reused":
                failed = int(payload.get("failed") or 0)
                row.items_done += int(payload.get("ok") or 0) + failed
                row.items_failed += failed
                row.failed_items.add(payload)
            case "step.skipped":
                row.state = "skipped"
            case "step.reused":
                outcome = payload.get("outcome") or {}
                row.routed = True
                row.error = str((outcome.get("error") or {}).get("message") or "")
                if outcome.get("status") == "skipped":
                    row.state = "skipped"
                else:
                    return row.end("failed" if _failed(outcome) else "reused", self.last)
            case "call.error" | "step.timed_out":
                row.error = str((payload.get("error") or {}).get("message") or "")
                row.code_error = (payload.get("extra") or {}).get("py")
                return row.end("failed", self.last)
            case "call.done" if str(event.get("command_id")) not in self._opening:
                return row.end("done", self.last)
            case "child.ended" if not payload.get("resumes", True):
                row.error = str((payload.get("error") or {}).get("message") or "")
                return row.end("failed" if _failed(payload) else "done", self.last)
            case "wait.ended" if wait is not None and not wait.resumes:
                row.error = str((payload.get("error") or {}).get("message") or "")
                return row.end("failed" if _failed(payload) else "done", self.last)
            case "loop.done" | "step.exit":
                row.error = str((payload.get("error") or {}).get("message") or "")
                return row.end("failed" if _failed(payload) else "done", self.last)
        return False

    def _route(self, event: Mapping[str, Any]) -> None:
        for route in (event.get("payload") or {}).get("routes") or ():
            self._reached_steps.update(route.get("arcs", ()))
            if (row := self.rows.get((str(route["step"]), int(route["generation"])))) is not None:
                row.routed = True

    def _failed_by_routing(self, event: Mapping[str, Any]) -> StepRow | None:
        """The step that had ended well before its arcs or `set` failed the execution; or a step that an arc led to, but
        that could not begin."""
        payload = event.get("payload") or {}
        error = payload.get("error")
        if event["event_type"] != "playbook.failed" or QUARANTINED in payload or not isinstance(error, Mapping):
            return None
        if (name := error.get("step")) is None:
            return None
        row = next((row for row in reversed(self.rows.values()) if row.name == name), None)
        if row is None and (name in self._reached_steps or not self.rows):
            row = self._begin((str(name), 1))
            row.end("done", self.last)
        if row is None or row.state != "done" or row.routed:
            return None
        row.fail(error_text(error))
        return row

    def _stop(self) -> None:
        """Steps that had not ended were stopped by the execution's end."""
        for row in self.rows.values():
            row.end("stopped", self.ended)

    def _set_quarantined(self, quarantined: bool) -> None:
        """In quarantine nothing continues, and nothing that is under way ends."""
        for row in self.rows.values():
            row.is_quarantined = quarantined

    def _status(self, event: Mapping[str, Any]) -> None:
        if event["event_type"] in ENDS:
            self.ended = self.last
            self.paused = None
            if QUARANTINED in (event.get("payload") or {}):
                self._set_quarantined(True)
            else:
                self.is_compensating = False
                self._stop()
        match event["event_type"]:
            case "execution.paused" if IGNORED not in (event.get("payload") or {}):
                self.paused = event
            case "execution.resumed" if IGNORED not in (event.get("payload") or {}):
                self.paused = None
            case "compensation.started":
                self.is_compensating = True
            case "playbook.completed":
                self.status = "COMPLETED"
            case "playbook.failed":
                self.status = "FAILED"
            case "execution.cancelled":
                self.status = "CANCELLED"
            case "execution.retried":
                self.status = "RUNNING"
                self._set_quarantined(False)
            case "execution.dropped":
                self.dropped = event
                self._stop()


def _cells(row: StepRow, at: float) -> tuple[Any, ...]:
    # what is reused has taken its time in another execution
    took = "" if row.state == "reused" else f"{row.duration(at):.2f} s"
    times = (took, _seconds(row.queued_ms), _waited(row.waited_ms), _seconds(row.run_ms))
    return (row.mark, row.title, row.label, row.loop, *times, row.failed or None)


def _folded_cells(rows: Folded[StepRow], at: float) -> tuple[Any, ...]:
    """The cells of folded turns. Times and failed attempts are sums over all of them."""
    turns, title = rows.turns, _titles(rows)
    queued, ran = (_sum(getattr(row, name) for row in turns) for name in ("queued_ms", "run_ms"))
    waited = _waited(sum(row.waited_ms for row in turns))
    times = (f"{sum(row.duration(at) for row in turns):.2f} s", _seconds(queued), waited, _seconds(ran))
    return (FOLDED, title, rows.label, "", *times, sum(row.failed for row in turns) or None)


def _sum(times: Iterable[float | None]) -> float | None:
    known = [ms for ms in times if ms is not None]
    return sum(known) if known else None


def _waited(ms: float) -> str:
    return _seconds(ms if ms >= MIN_WAIT_MS else None)


def _seconds(ms: float | None) -> str:
    return "" if ms is None else f"{ms / 1000:.2f} s"


def line(row: StepRow) -> str:
    """A step that ended, in one line."""
    done, comma, failed = row.loop.partition(",")
    if row.state == "reused":
        return f"{row.mark} {row.title}  reused"
    items = f"  {done} {'item' if row.count == 1 else 'items'}{comma}{failed}" if row.items is not None else ""
    error = f"  {row.error}" if row.state == "failed" and row.error else ""
    return f"{row.mark} {row.title}{items}  {row.duration(row.ended or row.began):.2f} s{error}"


def lines(rows: Folded[StepRow]) -> str:
    """Turns that ended, in one line."""
    return f"{FOLDED} {_titles(rows)}  {rows.label}  {sum(row.duration(row.began) for row in rows.turns):.2f} s"


def _titles(rows: Folded[StepRow]) -> str:
    first, last = rows.turns[0], rows.turns[-1]
    return f"{first.name} (runs {first.generation} to {last.generation})"


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _failed(payload: Mapping[str, Any]) -> bool:
    return str(payload.get("status", "")).lower() in ("error", "failed")
