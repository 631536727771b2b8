"""What each event of a log must keep to, read in order: found out from the events alone, beside the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import DECISIONS, FACTS, Event
from noetl_serverless.engine.state import State
from noetl_serverless.store.projections import project
from noetl_serverless.testing.rows import ExecutionRow

from .control_rules import drop_waits, read_control
from .model import Move

Key = tuple[str, str]
# a value that is only in the log of another execution
ELSEWHERE = object()
REPORTED = frozenset({e.CALL_DONE, e.CALL_ERROR, e.CALL_DEFERRED, e.CALL_PARKED, e.FRAME_COMMITTED})
# (what happened, to which execution, more)
Note = Callable[..., None]


class Broken(Exception):
    """Ends the run: a rule does not hold."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


@dataclass(slots=True)
class Diary:
    """What the log of one execution has said so far."""

    id: str
    shadow: State
    seen: int = 0
    decided: set[int] = field(default_factory=set)
    issued: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    timers: dict[str, str] = field(default_factory=dict)
    children: dict[str, str] = field(default_factory=dict)
    # (step, generation) that have begun
    begun: set[tuple[str, int]] = field(default_factory=set)
    frames: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    # loop -> its width, and the frames that are out, each with the items it runs at once
    widths: dict[tuple[str, int], int] = field(default_factory=dict)
    out: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    # issued in the commit that is looked at, and the fences that it closes
    fresh: set[str] = field(default_factory=set)
    anchors: set[int] = field(default_factory=set)
    # command -> index of its frame
    indexes: dict[str, int] = field(default_factory=dict)
    # loop -> key of ctx -> the last item that has set it, and what to: its value, or the reference to it
    written: dict[tuple[str, int], dict[str, tuple[int, Any]]] = field(default_factory=dict)
    # loops that claim their items
    cursors: set[tuple[str, int]] = field(default_factory=set)
    # when its time is over, in milliseconds, and whether that has been decided
    due: int | None = None
    is_overdue: bool = False
    # when the time of a run of a step is over, by its timer; the run that each timer and child belongs to; and the runs
    # whose time was over
    steps_due: dict[str, int] = field(default_factory=dict)
    owners: dict[str, tuple[str, int]] = field(default_factory=dict)
    over: set[tuple[str, int]] = field(default_factory=set)
    # children that were cancelled
    notified: set[str] = field(default_factory=set)
    # since when it is paused, in milliseconds; when timers are due and when they were set
    paused_at: int | None = None
    was_paused: bool = False
    timers_due: dict[str, int] = field(default_factory=dict)
    timers_set: dict[str, int] = field(default_factory=dict)
    # waits that go on: the signal that each is for, and whether it is until an instant; those whose step has more to do
    # then; and signals that no wait has taken, in order
    waits: dict[str, tuple[str | None, bool]] = field(default_factory=dict)
    resuming: dict[str, tuple[str, int]] = field(default_factory=dict)
    signals: list[tuple[str, Any]] = field(default_factory=list)
    # of the waits, those for approvals
    approvals: set[str] = field(default_factory=set)
    signal_ids: set[str | None] = field(default_factory=set)
    # whether it is to fail, and what it has done is undone before
    is_undoing: bool = False
    # steps that another execution has done -> the last run
    reused: dict[str, int] = field(default_factory=dict)
    # loops that the commit that is looked at has ended
    ended_loops: list[tuple[str, int]] = field(default_factory=list)


class EventRules:
    """`read` takes the next event of a log into its diary. A broken rule is kept in `faults`."""

    executions: dict[str, ExecutionRow]
    # command -> the fence under which a worker holds it
    holds: dict[Key, int]
    _pool: Callable[[str], str]
    _clock: Callable[[], float]

    def __init__(self, note: Note) -> None:
        self._note = note
        self.faults: list[Broken] = []
        # command -> the fence it was closed under
        self.closed: dict[Key, int] = {}
        self.inboxed: set[Key] = set()
        # what befell each command, as the model has it
        self.moves: list[Move] = []
        # whether the result store has an object with this key
        self.is_stored: Callable[[str], bool] = lambda key: True

    def broken(self, rule: str, detail: str) -> None:
        self.faults.append(Broken(rule, detail))
        self._note("BROKEN", None, rule, detail)

    def _must(self, holds: bool, rule: str, detail: Any) -> None:
        if not holds:
            self.broken(rule, str(detail() if callable(detail) else detail))

    def read(self, diary: Diary, event: Event) -> None:
        id, payload = diary.id, event.payload
        if e.QUARANTINED in payload:
            self._quarantined(diary, event)
            return
        known = event.type in (FACTS if event.cause is None else DECISIONS)
        self._must(known, "neither a fact nor a decision", f"{id} {event}")
        if e.IGNORED in payload:
            self._ignored(diary, event)
            return
        read_control(diary, event, self._must)
        match event.type:
            case e.ISSUED:
                self._issued(diary, event)
            case kind if kind in REPORTED:
                self._reported(diary, event.command_id or "", payload.get("meta", {}).get("fence"))
                self._has_what_it_names(diary, event)
                self._writes(diary, event)
                if kind == e.FRAME_COMMITTED:
                    self._frame(diary, event)
                    diary.out[(event.step or "", event.generation or 0)].pop(diary.indexes[event.command_id or ""])
            case e.FRAME_REUSED:
                self._frame(diary, event)
                written = diary.written.setdefault((event.step or "", event.generation or 0), {})
                for name, item in payload.get(e.SET_BY, {}).items():
                    written[name] = max(written.get(name, (0, None)), (item, ELSEWHERE), key=lambda known: known[0])
            case e.TIMER_SET:
                self._must(payload["timer"] not in diary.timers, "a timer was set twice", f"{id} {payload}")
                diary.timers[payload["timer"]] = "set"
                diary.owners[payload["timer"]] = (event.step or "", event.generation or 0)
                if payload["timer"] == e.DEADLINE:
                    self._deadline_set(diary, event)
                elif event.command_id is None:
                    diary.steps_due[payload["timer"]] = payload["due"]
            case e.TIMER_FIRED:
                once = diary.timers.get(payload["timer"]) == "set"
                self._must(once, "a timer fired twice", f"{id} {payload}")
                diary.timers[payload["timer"]] = "fired"
                if payload["timer"] == e.DEADLINE:
                    self._deadline_reached(diary)
                elif (due := diary.steps_due.get(payload["timer"])) is not None:
                    now = self._clock() * 1000
                    self._must(now >= due, "a step was ended before its time", f"{id} {payload} {now} {due}")
                elif payload["timer"] in diary.waits:
                    now, due = self._clock() * 1000, diary.timers_due[payload["timer"]]
                    self._must(now >= due, "a wait was ended before its time", f"{id} {payload} {now} {due}")
            case e.STEP_TIMED_OUT:
                key = (event.step or "", event.generation or 0)
                fired = diary.timers.get(e.step_deadline(f"{key[0]}#{key[1]}")) == "fired"
                self._must(fired and key in diary.begun, "a step was ended before its time", f"{id} {key}")
                self._step_over(diary, {key})
            case e.STEP_STOPPED:
                key = (event.step or "", event.generation or 0)
                self._must(diary.is_undoing, "a step stopped, and nothing fails", f"{id} {key}")
                # of a loop, one of its items may, and the others go on
                if not e.stops_item(event):
                    self._step_over(diary, {key})
            case e.COMPENSATION_STARTED:
                kept = {tuple(key.rsplit("#", 1)) for key in payload["kept"]}
                under_way = {key for key in diary.owners.values() if (key[0], str(key[1])) not in kept}
                self._step_over(diary, under_way)
                # of what goes on, only what workers and sub-playbooks have, within its time
                limits = {*map(e.step_deadline, payload["kept"])}
                if "started" in diary.children.values():
                    limits.add(e.DEADLINE)
                else:
                    diary.due = None
                kept_timers = {name: how for name, how in diary.timers.items() if name in limits}
                self._drop_suspended(diary, lambda key: True, (diary.timers,))
                diary.timers |= kept_timers
            case e.CHILD_STARTED:
                child = payload["execution_id"]
                self._must(child not in diary.children, "a child was started twice", f"{id} {child}")
                self._must(child in self.executions, "a child was not opened", f"{id} {child}")
                diary.children[child] = "started"
                diary.owners[child] = (event.step or "", event.generation or 0)
            case e.CHILD_ENDED:
                child = payload["execution_id"]
                once = diary.children.get(child) == "started"
                self._must(once, "a child ended twice", f"{id} {child}")
                diary.children[child] = "ended"
            case e.LOOP_OPENED:
                by_worker = f"{event.step}#{event.generation}.open"
                if by_worker not in diary.issued:
                    self._begin(diary, event)
                if payload["mode"] == "cursor":
                    diary.cursors.add((event.step or "", event.generation or 0))
                width = 1 if payload["mode"] == "sequential" else payload["max_in_flight"]
                diary.widths[(event.step or "", event.generation or 0)] = width
            case e.LOOP_DONE:
                self._loop_done(diary, event)
            case e.STEP_SKIPPED if event.generation is not None:
                self._begin(diary, event)

    def _has_what_it_names(self, diary: Diary, event: Event) -> None:
        ref = event.payload.get("ref")
        if ref is not None and "key" in ref:
            self._must(self.is_stored(ref["key"]), "a result was reported and is not there", f"{diary.id} {event}")

    def _deadline_set(self, diary: Diary, event: Event) -> None:
        started = self.executions[diary.id].events[0]
        due = started.at + round(started.payload.get("timeout", 0) * 1000)
        self._must(event.payload["due"] == due, "a time to end in is another", f"{diary.id} {event.payload} {due}")
        diary.due = event.payload["due"]

    def _deadline_reached(self, diary: Diary) -> None:
        now = self._clock() * 1000
        early = diary.due is None or now < diary.due
        self._must(not early, "an execution was ended before its time", f"{diary.id} {now} {diary.due}")
        diary.is_overdue = True

    def _step_over(self, diary: Diary, keys: set[tuple[str, int]]) -> None:
        """Nothing of these runs is waited for any more; what comes of it later is ignored."""
        diary.over |= keys
        for key in keys:
            diary.out.pop(key, None)
        for command in sorted(name for name in diary.open if diary.owners.get(name) in keys):
            diary.open.discard(command)
            self.moves.append((diary.id, command, "end", 0))
            self.holds.pop((diary.id, command), None)
        self._drop_suspended(diary, lambda key: key in keys, (diary.timers, diary.children))

    def _drop_suspended(
        self, diary: Diary, is_over: Callable[[tuple[str, int]], bool], sources: tuple[dict[str, str], ...]
    ) -> None:
        for source in sources:
            for name in [name for name, how in source.items() if how in ("set", "started")]:
                if is_over(diary.owners[name]):
                    source[name] = "dropped"
        drop_waits(diary, is_over)

    def _quarantined(self, diary: Diary, event: Event) -> None:
        """A fact that nothing can be made of is kept in the end that it led to, and no other end."""
        payload = event.payload
        planted = "planted" in payload["error"]["message"]
        self._must(planted, "it could not be decided", f"{diary.id} {payload['error']}")
        fact = payload[e.QUARANTINED]
        if fact["type"] in REPORTED:
            self._reported(diary, fact["command"], fact["payload"].get("meta", {}).get("fence"))

    def _reported(self, diary: Diary, command: str, fence: int) -> None:
        key = (diary.id, command)
        self._must(command in diary.open, "an outcome of a command that is not open", key)
        diary.open.discard(command)
        if key in self.inboxed:
            self.moves.append((*key, "take", fence))
        self._ran_ahead(diary, command, fence)
        current = self.closed.get(key)
        self._must(fence == current, "an outcome under another fence", f"{key} {fence}")

    def _ignored(self, diary: Diary, event: Event) -> None:
        """What changes nothing is a fact that nobody waits for."""
        waited = (
            event.command_id in diary.open
            or diary.timers.get(event.payload.get("timer", "")) == "set"
            or diary.children.get(event.payload.get("execution_id", "")) == "started"
        )
        match event.type:
            case e.SIGNAL_RECEIVED:
                waited = event.payload.get("id") not in diary.signal_ids
            case e.PAUSED:
                waited = diary.paused_at is None
            case e.RESUMED:
                waited = diary.paused_at is not None
        self._must(not waited, "a fact that was waited for is ignored", f"{diary.id} {event}")
        if event.type == e.CHILD_ENDED:
            child = event.payload["execution_id"]
            once = diary.children.get(child) == "dropped"
            self._must(once, "the end of a child is told twice", f"{diary.id} {event}")
            diary.children[child] = "ended"
        self._note("ignored", diary.id, f"{event.seq} {event.type} {event.command_id}")

    def _ran_ahead(self, diary: Diary, command: str, fence: int) -> None:
        """One that is issued and reported in one commit was run ahead, under the hold on the one before it."""
        key = (diary.id, command)
        if command in diary.fresh and key not in self.closed:
            self._must(fence in diary.anchors, "ran ahead without a hold", f"{key} {fence}")
            self.closed[key] = fence
            self.moves.append((*key, "ahead", fence))

    def _issued(self, diary: Diary, event: Event) -> None:
        command = event.command_id or ""
        self._must(command not in diary.issued, "a command was issued twice", f"{diary.id} {command}")
        key = (event.step or "", event.generation or 0)
        is_over = (diary.is_overdue and not diary.is_undoing) or key in diary.over
        self._must(not is_over, "a command was issued when its time was over", f"{diary.id} {command}")
        diary.owners[command] = key
        diary.issued.add(command)
        self.moves.append((diary.id, command, "issue", 0))
        diary.open.add(command)
        diary.fresh.add(command)
        resumes = False
        for source, name in ((diary.timers, "timer"), (diary.children, "child")):
            if (what := event.payload.get(name)) is not None:
                resumes = True
                ready = source.get(what) in ("fired", "ended")
                self._must(ready, "resumed twice, or before its time", f"{diary.id} {command} {what}")
                source[what] = "resumed"
        if event.payload["attempt"] > 1 and not resumes:
            resumes = True
            wait = next((name for name, of in diary.resuming.items() if of == key and name not in diary.waits), None)
            self._must(wait is not None, "resumed twice, or before its wait has ended", f"{diary.id} {command}")
            diary.resuming.pop(wait or "", None)
        if event.payload["kind"] != "frame" and not resumes:
            self._begin(diary, event)
        if event.payload["kind"] == "frame":
            self._frame_out(diary, event)

    def _frame_out(self, diary: Diary, event: Event) -> None:
        key = (event.step or "", event.generation or 0)
        index, start, end, concurrency = event.payload["frame"]
        out = diary.out.setdefault(key, {})
        out[index] = min(concurrency, end - start)
        diary.indexes[event.command_id or ""] = index
        width = diary.widths[key]
        self._must(sum(out.values()) <= width, "a loop is wider than it may be", f"{diary.id} {key} {out} {width}")

    def _begin(self, diary: Diary, event: Event) -> None:
        assert event.step is not None and event.generation is not None
        key = (event.step, event.generation)
        done = diary.reused.get(event.step, 0)
        self._must(event.generation > done, "what another execution has done runs again", f"{diary.id} {key} {done}")
        self._must(key not in diary.begun, "a step began twice in one generation", f"{diary.id} {key}")
        earlier = event.generation == 1 or (event.step, event.generation - 1) in diary.begun
        self._must(earlier, "a generation was left out", f"{diary.id} {key}")
        diary.begun.add(key)

    def _frame(self, diary: Diary, event: Event) -> None:
        assert event.step is not None and event.generation is not None
        (row,) = project(diary.id, [event], self._pool).frames
        frames = diary.frames.setdefault((event.step, event.generation), {})
        start, end = row["start"], row["end"]
        self._must(start not in frames, "a frame was committed twice", f"{diary.id} {row}")
        overlaps = [at for at, to in frames.items() if at < end and start < to]
        self._must(not overlaps, "an item was counted twice", f"{diary.id} {row} {frames}")
        self._must(row["ok"] + row["failed"] == end - start, "an item was not counted", f"{diary.id} {row}")
        frames[start] = end

    def _writes(self, diary: Diary, event: Event) -> None:
        """What items have set, as a fold in the order of the items has it, whatever order they are reported in."""
        payload = event.payload
        if (event.command_id or "") not in diary.indexes:
            return
        written = diary.written.setdefault((event.step or "", event.generation or 0), {})
        for name, value in {**payload.get("set", {}), **payload.get(e.SET_REFS, {})}.items():
            # of a loop in sequence, what is reported last is of the last item
            item = payload.get(e.SET_BY, {}).get(name, written.get(name, (0, None))[0])
            if name not in written or item >= written[name][0]:
                written[name] = (item, value)

    def loops_wrote(self, diary: Diary) -> None:
        """Once a loop has ended, ctx holds what its last items have set; `diary.shadow`: the state after the commit."""
        state = diary.shadow
        for step, generation in diary.ended_loops:
            under_way = any(key.rpartition("#")[0] == step for key in state.loops)
            if under_way or state.generations.get(step) != generation or state.ended:
                continue
            for name, (item, value) in diary.written.get((step, generation), {}).items():
                found = state.ctx_refs[name] if name in state.ctx_refs else state.ctx.get(name)
                right = found == value or value is ELSEWHERE
                self._must(right, "ctx is not what the last item set", f"{diary.id} {step} {name} {item} {found}")
        diary.ended_loops.clear()

    def _loop_done(self, diary: Diary, event: Event) -> None:
        assert event.step is not None and event.generation is not None
        diary.ended_loops.append((event.step, event.generation))
        stats = event.payload.get("stats")
        if stats is None or event.payload["status"] != "ok":
            return
        key = (event.step, event.generation)
        frames = sorted(diary.frames.get(key, {}).items())
        reached = 0
        for start, end in frames:
            # a claim may find less than there is a place for
            self._must(key in diary.cursors or start == reached, "items were left out", f"{diary.id} {key} {frames}")
            reached = end
        total = sum(end - start for start, end in frames)
        self._must(total == stats["total"], "items were left out", f"{diary.id} {key} {frames} {stats}")
        self._must(
            stats["success"] + stats["failed"] == stats["total"], "items were miscounted", f"{event.step} {stats}"
        )
