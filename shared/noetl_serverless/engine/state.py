"""The state of an execution after an event; its size depends on the playbook, not on the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Literal

from .assigned import SetValues
from .events import UNDECIDABLE
from .variables import Variable, Variables, next_expiry, split, with_values

# of a stored state: any release can go on with the first; the release before refuses the second
FIRST_VERSION = 1
NEWER_VERSION = 2
# the kind of sender of a signal that answers a callback URL
CALLBACK = "callback"
# of a step: reported commands, billed ms, money
Spent = tuple[int, float, float]
Status = Literal["new", "running", "completed", "failed", "cancelled"]


def token_key(step: str, generation: int) -> str:
    return f"{step}#{generation}"


def split_token_key(key: str) -> tuple[str, int]:
    """(step, generation) of a key that `token_key` made."""
    step, _, generation = key.rpartition("#")
    return step, int(generation)


@dataclass(frozen=True, slots=True)
class Token:
    """A step that is under way."""

    step: str
    generation: int
    # sharing: looping, with the part of ctx that the frames read in the loop's opening
    phase: Literal["opening", "running", "looping", "sharing", "delayed", "parked"]

    @property
    def status(self) -> str:
        """The phase as shown to users."""
        return "looping" if self.phase == "sharing" else self.phase


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is issued and not yet reported."""

    key: str
    kind: Literal["step", "open", "frame"]
    attempt: int
    # index, start, end, concurrency
    frame: tuple[int, int, int, int] | None = None

    @classmethod
    def restore(cls, value: Mapping[str, Any]) -> Command:
        return cls(**{**value, "frame": _tuple(value["frame"])})


@dataclass(kw_only=True, frozen=True, slots=True)
class Suspended:
    """A command that a timer or the end of a child execution will resume. A deadline resumes nothing: then the
    execution, or a run of a step, ends."""

    key: str
    kind: Literal["step", "open", "frame", "deadline"]
    attempt: int
    frame: tuple[int, int, int, int] | None
    resume: dict[str, Any] | None
    return_step: str | None = None

    @classmethod
    def restore(cls, value: Mapping[str, Any]) -> Suspended:
        return cls(**{**value, "frame": _tuple(value["frame"])})


@dataclass(kw_only=True, frozen=True, slots=True)
class Wait(Suspended):
    """A command that a signal, or without a name of one a time, will resume. With `approval` the signal's data is a
    decision. `resumes`: whether its worker has more to do then; if not, the end of the wait is that of the step."""

    signal: str | None = None
    approval: bool = False
    # whether callback URLs send its signal
    callback: bool = False
    # until an instant that a pause does not move
    fixed: bool = False
    resumes: bool = True

    def takes(self, signal: Signal) -> bool:
        return takes(self.signal, self.approval, signal)


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that no wait has taken yet. `by`: who has sent it, if that is known."""

    name: str
    data: Any = None
    by: dict[str, Any] | None = None


def takes(name: str | None, approval: bool, signal: Signal) -> bool:
    """Whether a signal ends a wait for this name: an approval is decided by a decision, and by nothing else."""
    if signal.name != name or not approval:
        return signal.name == name
    # few playbooks have approvals, and a cold start need not read what decides one
    from ..playbook.approvals import fault_of

    return fault_of(signal.data) is None


@dataclass(frozen=True, slots=True)
class Compensable:
    """A run of a step that is to be undone if the execution fails, and its outcome."""

    step: str
    generation: int
    outcome: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compensating:
    """The error that the execution will fail with, at a step if any; the steps whose runs are undone, and
    {step, code, message} of those that could not be."""

    error: dict[str, Any]
    step: str | None = None
    done: tuple[str, ...] = ()
    failed: tuple[dict[str, Any], ...] = ()

    @classmethod
    def restore(cls, value: Mapping[str, Any]) -> Compensating:
        return cls(value["error"], value["step"], tuple(value["done"]), tuple(value["failed"]))


@dataclass(frozen=True, slots=True)
class Paused:
    """Since when, in ms, and its timers: when each was due, and since when it has stood still. `left`: the
    sub-playbooks that nothing waits for any more, and that are paused with it."""

    at: int
    timers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    def with_timer(self, name: str, due: int, at: int) -> Paused:
        return replace(self, timers={**self.timers, name: (due, max(at, self.at))})

    @classmethod
    def restore(cls, value: Mapping[str, Any]) -> Paused:
        timers = {name: (due, since) for name, (due, since) in value["timers"].items()}
        return cls(value["at"], timers, tuple(value.get("left", ())))


@dataclass(kw_only=True, frozen=True, slots=True)
class Loop:
    """A loop's window. Finished items are only counted here; their results are in the log."""

    count: int
    sequential: bool
    max_in_flight: int
    best_effort: bool
    single: bool
    next: int = 0
    frames: int = 0
    ok: int = 0
    failed: int = 0
    # items that frames returned without having run them: [start, end]
    returned: tuple[tuple[int, int], ...] = ()
    item_ms: float | None = None
    error: dict[str, Any] | None = None
    # [start, results] of each finished frame, or None once they are too large
    results: tuple[tuple[int, list[Any]], ...] | None = ()
    bytes: int = 0

    @property
    def is_done(self) -> bool:
        """Whether all its items have ended."""
        return self.ok + self.failed == self.count

    @property
    def stats(self) -> dict[str, int]:
        return {"total": self.count, "success": self.ok, "failed": self.failed}

    @classmethod
    def restore(cls, value: Mapping[str, Any]) -> Loop:
        results = value["results"]
        returned = tuple((start, end) for start, end in value["returned"])
        kept = None if results is None else tuple((start, data) for start, data in results)
        return cls(**{**value, "returned": returned, "results": kept})


@dataclass(frozen=True, slots=True)
class Cursor:
    """Its frames claim up to `rows` items each, whose indexes are reserved for them, until as many have found none as
    may be under way at once. `drained`: how many have, less those that have found some since: rows that another claim
    holds while one looks for them are passed over, and are free again if that claim is undone."""

    rows: int
    drained: int = 0


# what names of ctx were at an earlier time: {"value": ...}, {"ref": ...}, or {} of one that was not there
Before = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class State:
    execution_id: str
    seq: int = 0
    status: Status = "new"
    depth: int = 0
    parent: dict[str, Any] | None = None
    # immutable; kept beside the snapshot, not in it
    workload: Mapping[str, Any] = field(default_factory=dict)
    ctx: dict[str, Any] = field(default_factory=dict)
    # keys of ctx whose value is in a result store -> the reference to it
    ctx_refs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    # step -> the steps whose arcs led to it, while it waits at its join
    waiting: dict[str, list[str]] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    # step -> its latest outcome: {"status", "data" | "ref", "error"?}
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    loops: dict[str, Loop] = field(default_factory=dict)
    # of each parallel loop that is under way, by its key: the keys of ctx that its items have set -> the index of the
    # last item that did
    writers: dict[str, dict[str, int]] = field(default_factory=dict)
    # of each loop over a cursor that is under way, by its key
    cursors: dict[str, Cursor] = field(default_factory=dict)
    timers: dict[str, Suspended] = field(default_factory=dict)
    children: dict[str, Suspended] = field(default_factory=dict)
    # by name; see `waits`
    waits: dict[str, Wait] = field(default_factory=dict)
    # in the order in which they came, and the ids of the last ones that had one
    signals: tuple[Signal, ...] = ()
    signal_ids: tuple[str, ...] = ()
    # of each callback of the keychain, by its name: the id of its last answer, which no other signals push out
    callback_ids: dict[str, str] = field(default_factory=dict)
    # signal of callbacks -> how many waits for it have ended
    ended_waits: dict[str, int] = field(default_factory=dict)
    # of the approvals that have been decided, by their name, the last of them: {"at", "by"?} of the last decision
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    paused: Paused | None = None
    # by name; when the first of them expires, in ms; and the ids of the last requests that had one
    variables: Variables = field(default_factory=dict)
    next_expiry: int | None = None
    variable_ids: tuple[str, ...] = ()
    # in the order in which they ended
    compensable: tuple[Compensable, ...] = ()
    compensating: Compensating | None = None
    # the last step that ended a branch: its outcome is the execution's result
    last: str | None = None
    error: dict[str, Any] | None = None
    # what it may spend, and what its steps have spent; counted only if there is a budget
    budget: dict[str, Any] | None = None
    spent: dict[str, Spent] = field(default_factory=dict)
    # the execution that it goes on with from one of its steps
    restart_of: str | None = None
    # of each loop that it goes on with, until that is opened, by its key: {"count", "items": its collection, "frames":
    # payloads of FRAME_REUSED, in the order of the items, "before"?: see `Before`}
    reused: dict[str, dict[str, Any]] = field(default_factory=dict)

    def has_timer(self, name: str) -> bool:
        """Whether a timer of that name is set: that of a wait is named as the wait."""
        return name in self.timers or name in self.waits

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    @property
    def is_suspended(self) -> bool:
        """Whether it waits for a time, a sub-playbook or a signal."""
        return bool(self.timers or self.children or self.waits)

    @property
    def version(self) -> int:
        """Of the stored form: the second one has parts of which the release before knows nothing."""
        return NEWER_VERSION if any(_newer_parts(self)) else FIRST_VERSION

    @property
    def quarantined(self) -> bool:
        """Whether it has failed because the engine could not decide it."""
        return self.status == "failed" and (self.error or {}).get("code") == UNDECIDABLE

    def has_received(self, signal: Mapping[str, Any]) -> bool:
        """Whether a signal with the id of this one, if it has one, has come already."""
        id: str | None = signal.get("id")
        by: Mapping[str, Any] = signal.get("by") or {}
        if id is None:
            return False
        known = (self.callback_ids.get(by["name"]),) if by.get("kind") == CALLBACK else self.signal_ids
        return id in known

    def copy(self) -> State:
        return State(
            execution_id=self.execution_id,
            seq=self.seq,
            status=self.status,
            depth=self.depth,
            parent=self.parent,
            workload=self.workload,
            ctx=dict(self.ctx),
            ctx_refs=dict(self.ctx_refs),
            tokens=dict(self.tokens),
            waiting={step: list(sources) for step, sources in self.waiting.items()},
            generations=dict(self.generations),
            outcomes=dict(self.outcomes),
            commands=dict(self.commands),
            loops=dict(self.loops),
            writers=dict(self.writers),
            cursors=dict(self.cursors),
            timers=dict(self.timers),
            children=dict(self.children),
            waits=dict(self.waits),
            signals=self.signals,
            signal_ids=self.signal_ids,
            callback_ids=self.callback_ids,
            ended_waits=self.ended_waits,
            answered=self.answered,
            paused=self.paused,
            variables=self.variables,
            next_expiry=self.next_expiry,
            variable_ids=self.variable_ids,
            compensable=self.compensable,
            compensating=self.compensating,
            last=self.last,
            error=self.error,
            budget=self.budget,
            spent=dict(self.spent),
            restart_of=self.restart_of,
            reused=dict(self.reused),
        )

    def assign(
        self, values: Mapping[str, Any], refs: Mapping[str, dict[str, Any]], at: int = 0, step: str | None = None
    ) -> None:
        """Apply what `set` of a step assigns: values, and references to values."""
        if not values and not refs:
            return
        values, variables = split(values)
        if variables:
            self.keep_variables(with_values(self.variables, variables, at, "step_result", step))
        if self.ctx_refs or refs:
            self.ctx, self.ctx_refs = SetValues(dict(values), dict(refs)).merged_into(self.ctx, self.ctx_refs)
        else:
            self.ctx.update(values)

    def keep_variables(self, variables: Variables) -> None:
        self.variables = variables
        self.next_expiry = next_expiry(variables)

    def snapshot(self) -> dict[str, Any]:
        """The stored form of the state: all but the workload and empty parts. Its dataclasses become JSON objects.

        The references of ctx and the writers of loops are stored among the outcomes, under names that no step can have:
        the previous release refuses a state with a part that it does not know, and keeps these as outcomes that nothing
        reads.
        """
        parts = zip(SNAPSHOT, _parts(self), strict=True)
        kept = {name: value for name, value in parts if value or name in ALWAYS}
        if self.ctx_refs or self.writers:
            refs = {f"{OF_CTX}{name}": {"status": HELD, "ref": ref} for name, ref in self.ctx_refs.items()}
            writers = {f"{OF_LOOP}{key}": {"status": HELD, "writers": by} for key, by in self.writers.items()}
            kept["outcomes"] = {**self.outcomes, **refs, **writers}
        return kept

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any], workload: Mapping[str, Any]) -> State:
        values = dict(snapshot)
        outcomes, ctx = values.get("outcomes", {}), values.get("ctx", {})
        refs = {name[len(OF_CTX) :]: outcomes[name]["ref"] for name in outcomes if name.startswith(OF_CTX)}
        writers = {name[len(OF_LOOP) :]: outcomes[name]["writers"] for name in outcomes if name.startswith(OF_LOOP)}
        if refs or writers:
            held = (OF_CTX, OF_LOOP)
            values["outcomes"] = {name: outcome for name, outcome in outcomes.items() if not name.startswith(held)}
            # a name that is also in ctx has since been set by the previous release
            values["ctx_refs"] = {name: ref for name, ref in refs.items() if name not in ctx}
            # a loop that is not under way has since been ended by the previous release
            values["writers"] = {key: by for key, by in writers.items() if key in values.get("loops", {})}
        values["tokens"] = {key: Token(**value) for key, value in values.get("tokens", {}).items()}
        values["commands"] = {key: Command.restore(value) for key, value in values.get("commands", {}).items()}
        values["loops"] = {key: Loop.restore(value) for key, value in values.get("loops", {}).items()}
        values["cursors"] = {key: Cursor(**value) for key, value in values.get("cursors", {}).items()}
        values["timers"] = {key: Suspended.restore(value) for key, value in values.get("timers", {}).items()}
        values["children"] = {key: Suspended.restore(value) for key, value in values.get("children", {}).items()}
        values["waits"] = {key: Wait.restore(value) for key, value in values.get("waits", {}).items()}
        values["signals"] = tuple(Signal(**value) for value in values.get("signals", ()))
        values["signal_ids"] = tuple(values.get("signal_ids", ()))
        if (paused := values.get("paused")) is not None:
            values["paused"] = Paused.restore(paused)
        values["variables"] = {name: Variable(**value) for name, value in values.get("variables", {}).items()}
        values["next_expiry"] = next_expiry(values["variables"])
        values["variable_ids"] = tuple(values.get("variable_ids", ()))
        values["compensable"] = tuple(Compensable(**value) for value in values.get("compensable", ()))
        if (compensating := values.get("compensating")) is not None:
            values["compensating"] = Compensating.restore(compensating)
        values["spent"] = {key: tuple(value) for key, value in values.get("spent", {}).items()}
        return cls(workload=workload, **values)


SNAPSHOT = tuple(f.name for f in fields(State) if f.name not in ("workload", "ctx_refs", "writers", "next_expiry"))
_parts = attrgetter(*SNAPSHOT)
# of the parts, those of which the release before knows nothing
_newer_parts = attrgetter(
    *("waits", "signals", "signal_ids", "callback_ids", "ended_waits", "answered", "paused", "compensable"),
    *("compensating", "variables", "variable_ids", "restart_of"),
)
# prefixes and status of a reference of ctx, and of the writers of a loop, in their stored form
OF_CTX = "ctx."
OF_LOOP = "loop."
HELD = "held"
ALWAYS = frozenset({"execution_id", "seq", "status"})


def _tuple(value: Any) -> tuple[int, int, int, int] | None:
    return None if value is None else tuple(value)
