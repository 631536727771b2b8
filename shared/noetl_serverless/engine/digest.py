"""A checksum of what an execution did, the same on every host and with any number of workers.

The canonical log has one entry for each run of a step: the runs that led to it, its outcome, what it set, and the arcs
it took. Ids, clocks, durations, deliveries, retries and the division of loops into frames are left out. The entries are
in the order of cause and effect, ties by name. Each entry's SHA-256 is chained to the one before.

Of an HTTP response, the headers and the elapsed time do not count. Of an error, the kind, the code and the place count,
not the text. Of a failed execution only what led to the failure counts, and of a failed loop only that it failed: how
far other branches and items had come is chance. What users set as variables counts by what it leads to. The raw digest,
in contrast, is a chain over every event as it was written.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ..error_codes import former_code
from ..playbook.views import FIELD
from . import events as e
from .canonical import canonical, checksum
from .events import Event
from .evolve_steps import outcome_of
from .replay import logical_order
from .upcast import UPCASTERS
from .variables import PREFIX

CANONICAL = "c1:"
RAW = "r1:"
OF_ERROR = ("kind", "code", "at", "failed_task", "name", "template")
# the fields of a result of the http tool, and those that differ in every call
HTTP = frozenset({"status_code", "headers", "url", "elapsed"})
VOLATILE = frozenset({"headers", "elapsed"})
MODULUS = 1 << 256
STATUS = {e.COMPLETED: "completed", e.FAILED: "failed", e.CANCELLED: "cancelled"}

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Link:
    """One entry: its place in the execution, its own SHA-256, and that of the chain up to it."""

    name: str
    sha256: str
    chain: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Digest:
    value: str
    # False while the execution runs: the digest then covers the runs that have ended
    ended: bool
    links: tuple[Link, ...]


@dataclass(slots=True)
class Entry:
    parents: list[Key] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    route: dict[str, Any] | None = None
    children: list[dict[str, Any]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    loop: dict[str, Any] | None = None
    items: int = 0


def digest(execution_id: str, events: Iterable[Event], workload: Mapping[str, Any] | None = None) -> Digest:
    """The digest of a log; `workload` is for an execution whose workload was too large for its log."""
    reader = CanonicalLog([UPCASTERS.current(event) for event in logical_order(events)])
    ids = {
        execution_id: "{execution}",
        **dict.fromkeys(reader.restarted, "{restarted}"),
        **dict.fromkeys(reader.children, "{child}"),
    }
    links: list[Link] = []
    chain = ""
    for name, content in reader.entries(workload or {}):
        text = canonical(content)
        for id, mask in ids.items():
            text = text.replace(id, mask)
        entry_digest = sha256(text.encode(errors="surrogatepass")).hexdigest()
        chain = sha256(f"{chain}{entry_digest}".encode()).hexdigest()
        links.append(Link(name, entry_digest, chain, content))
    return Digest(CANONICAL + chain, reader.end is not None, tuple(links))


def raw_digest(events: Iterable[Event]) -> str:
    """A digest of every event as it was written: any change, loss or insertion yields another one."""
    chain = ""
    for event in sorted(events, key=lambda event: event.seq):
        row = [event.seq, event.cause, event.type, event.step, event.generation, event.command_id, event.at]
        chain = sha256((chain + canonical([*row, event.payload])).encode(errors="surrogatepass")).hexdigest()
    return RAW + chain


def without_volatile(value: Any) -> Any:
    """A result without what differs in every call: headers and time of an HTTP response, also within a pipeline."""
    if not isinstance(value, Mapping):
        return value
    kept = {name: item for name, item in value.items() if name not in VOLATILE} if _is_http(value) else dict(value)
    results = kept.get("results")
    if isinstance(results, Mapping) and any(_is_http(result) for result in results.values()):
        kept["results"] = {name: without_volatile(result) for name, result in results.items()}
    return kept


def stable_digest(value: Any) -> str | None:
    """SHA-256 of a result without what differs in every call; None if it has nothing of that kind."""
    return checksum(without_volatile(value)) if has_volatile(value) else None


def has_volatile(value: Any) -> bool:
    """Whether a result has what differs in every call."""
    if not isinstance(value, Mapping):
        return False
    results = value.get("results")
    return _is_http(value) or (isinstance(results, Mapping) and any(map(_is_http, results.values())))


def _is_http(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() >= HTTP


def items_digest(start: int, items: Sequence[Any]) -> int:
    """The digest of loop items from index `start` on: a sum, so that their division into frames does not matter."""
    total = 0
    for index, item in enumerate(items, start):
        text = f"{index}:{canonical(without_volatile(item))}"
        total += int.from_bytes(sha256(text.encode(errors="surrogatepass")).digest(), "big")
    return total % MODULUS


class CanonicalLog:
    """Reads a log in logical order and keeps its canonical content."""

    def __init__(self, log: list[Event]) -> None:
        self.found: dict[Key, Entry] = {}
        self.origin: dict[str, Any] = {}
        self.end: Event | None = None
        self.children: list[str] = []
        # the executions whose steps were reused
        self.restarted: list[str] = []
        self._reused: dict[str, Key] = {}
        # of loops that go on: the digest of the items that are done
        self._done_items: dict[Key, int] = {}
        self._arrivals: dict[str, list[Key]] = {}
        # steps that end with their wait, and the runs of those that undo others
        self._waits: set[str] = set()
        self._compensations: list[Key] = []
        # command id -> its kind
        self._kinds: dict[str, str] = {}
        for event in log:
            if self.end is None:
                self._read(event)

    def entries(self, workload: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
        origin = self.origin
        beginning = {"playbook": origin.get("plan"), "workload": origin.get("workload", workload)}
        restart = {"from": origin[e.RESTART]["from"]} if e.RESTART in origin else {}
        yield "start", {**beginning, "ctx": origin.get("ctx", {}), **restart}
        for step, generation in self._ordered(self._chosen()):
            yield f"{step}#{generation}", self._content(step, generation)
        if self.end is not None:
            error = self.end.payload.get("error") if self.end.type == e.FAILED else None
            yield "end", {"status": STATUS[self.end.type], "error": _error(error)}

    # -- reading

    def _read(self, event: Event) -> None:
        payload = event.payload
        for route in payload.get("routes", ()):
            self._route(route)
        match event.type:
            case e.STARTED:
                self.origin = payload
            case e.REUSED:
                self._reuse(event)
            case e.FRAME_REUSED:
                key = (event.step or "", event.generation or 0)
                self._done_items[key] = (self._done_items.get(key, 0) + _frame(payload)) % MODULUS
            case e.RESTARTED:
                self._restart(payload)
            case e.ISSUED:
                self._kinds[event.command_id or ""] = payload["kind"]
                self._entry(event)
            case e.STEP_SKIPPED if event.generation is not None:
                self._entry(event).outcome = {"status": "skipped"}
            case e.STEP_SKIPPED:
                self._arrivals.pop(event.step or "", None)
            case e.STEP_STOPPED if e.stops_item(event):
                pass
            case e.STEP_TIMED_OUT | e.STEP_STOPPED:
                self._entry(event).outcome = {"status": "error", "error": payload["error"]}
            case e.WAIT_STARTED:
                self._wait(event)
            case e.LOOP_OPENED:
                entry = self._entry(event)
                entry.loop = {"count": payload["count"], "collection": _value(payload)}
                entry.items = self._done_items.pop((event.step or "", event.generation or 0), entry.items)
            case e.LOOP_DONE:
                self._loop_done(event)
            case e.CHILD_STARTED:
                self.children.append(payload["execution_id"])
                named = {name: payload.get(name) for name in ("path", "plan_hash", "payload", "return_step")}
                if (ref := payload.get("payload_ref")) is not None:
                    named["payload"] = _reference(ref)
                self._entry(event).children.append(named)
            case e.COMPLETED | e.FAILED | e.CANCELLED:
                self.end = event
            case _:
                self._report(event)

    def _reuse(self, event: Event) -> None:
        if event.generation is not None:
            key = (event.step or "", event.generation)
            self.found[key] = Entry(outcome=event.payload["outcome"])
            self._reused[key[0]] = key
        # without it, the step was skipped because nothing could reach it, which is no entry of its own
        if (of := event.payload["of"]["execution_id"]) not in self.restarted:
            self.restarted.append(of)

    def _restart(self, payload: Mapping[str, Any]) -> None:
        ctx_refs = payload.get(e.CTX_REFS, {})
        refs = {name: _reference(ref) for name, ref in ctx_refs.items()}
        variables = {f"{PREFIX}{name}": it["value"] for name, it in payload.get("variables", {}).items()}
        self.origin = {**self.origin, "ctx": {**payload.get("ctx", {}), **refs, **variables}}
        for target, sources in payload["waiting"].items():
            self._arrivals[target] = [self._reused[source] for source in sources if source in self._reused]

    def _route(self, route: dict[str, Any]) -> None:
        key = (route["step"], route["generation"])
        arcs = list(route.get("arcs", ()))
        self.found.setdefault(key, Entry()).route = {
            "event": route["event"],
            "set": _set(route),
            "arcs": arcs,
        }
        if "compensated" in route:
            self._compensations.append(key)
        for target in arcs:
            self._arrivals.setdefault(target, []).append(key)

    def _wait(self, event: Event) -> None:
        """What it waits for, but not until when."""
        self._entry(event).waits.append({name: event.payload.get(name) for name in ("signal", "approval")})
        if not event.payload["resumes"]:
            self._waits.add(event.step or "")

    def _entry(self, event: Event) -> Entry:
        key = (event.step or "", event.generation or 0)
        if key not in self.found:
            self.found[key] = Entry(parents=self._arrivals.pop(key[0], []))
        return self.found[key]

    def _report(self, event: Event) -> None:
        """A fact about a command or a child."""
        key = (event.step or "", event.generation or 0)
        if key not in self.found:
            return
        entry, kind = self.found[key], self._kinds.get(event.command_id or "", "step")
        if kind == "step":
            # a command that was suspended has already reported what it had set by then
            entry.set.update(_set(event.payload))
        match event.type:
            case e.CALL_DONE | e.CALL_ERROR if kind == "step":
                entry.outcome = outcome_of(event)
            case e.CHILD_ENDED if not event.payload.get("resumes", True):
                entry.outcome = outcome_of(event)
            case e.WAIT_ENDED if event.step in self._waits:
                entry.outcome = outcome_of(event)
            case e.FRAME_COMMITTED:
                entry.items = (entry.items + _frame(event.payload)) % MODULUS

    def _loop_done(self, event: Event) -> None:
        entry = self._entry(event)
        entry.outcome = {"status": event.payload["status"], "error": event.payload.get("error")}
        if entry.loop is not None and event.payload["status"] == "ok":
            stats = event.payload.get("stats", {})
            entry.loop = {**entry.loop, "failed": stats.get("failed", 0), "items": f"{entry.items:064x}"}

    # -- writing

    def _chosen(self) -> set[Key]:
        """The runs that count, each with all that led to it."""
        exited = {key for key, entry in self.found.items() if entry.route is not None} | set(self._reused.values())
        if self.end is None or self.end.type != e.FAILED or self.end.step is None:
            return exited
        failed = max((key for key in self.found if key[0] == self.end.step), default=None)
        chosen: set[Key] = set()
        queue = [*self._compensations, *([failed] if failed is not None else [])]
        while queue:
            key = queue.pop()
            if key not in chosen:
                chosen.add(key)
                queue += self.found[key].parents
        return chosen

    def _ordered(self, chosen: set[Key]) -> Iterable[Key]:
        """Causes before effects, else by name."""
        missing = {key: set(self.found[key].parents) for key in chosen}
        effects: dict[Key, list[Key]] = {}
        for key, parents in missing.items():
            for parent in parents:
                effects.setdefault(parent, []).append(key)
        ready = [key for key, parents in missing.items() if not parents]
        heapq.heapify(ready)
        while ready:
            key = heapq.heappop(ready)
            yield key
            for effect in effects.get(key, ()):
                missing[effect].discard(key)
                if not missing[effect]:
                    heapq.heappush(ready, effect)

    def _content(self, step: str, generation: int) -> dict[str, Any]:
        entry = self.found[step, generation]
        content: dict[str, Any] = {
            "step": step,
            "generation": generation,
            "after": sorted(f"{name}#{run}" for name, run in entry.parents),
            "outcome": _outcome(entry.outcome),
        }
        if entry.route is not None:
            content["route"] = entry.route
        if entry.set:
            content["set"] = entry.set
        if entry.loop is not None:
            content["loop"] = entry.loop
        if entry.children:
            content["children"] = sorted(entry.children, key=canonical)
        if entry.waits:
            content["waits"] = sorted(entry.waits, key=canonical)
        return content


def _frame(payload: Mapping[str, Any]) -> int:
    if payload.get("ref") is None:
        return items_digest(payload["start"], payload.get("data") or [])
    if "digest" in payload:
        return int(payload["digest"], 16)
    # the worker reported no digest of the items, so the division into frames matters
    return items_digest(payload["start"], [_reference(payload["ref"])])


def _outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    content = {"status": outcome.get("status"), "error": _error(outcome.get("error"))}
    return {**content, "value": _value(outcome)}


def _value(payload: Mapping[str, Any]) -> Any:
    ref = payload.get("ref")
    return without_volatile(payload.get("data")) if ref is None else _reference(ref)


def _set(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a report or a route sets."""
    set_refs = payload.get(e.SET_REFS) or {}
    return {**payload.get("set", {}), **{name: _reference(ref) for name, ref in set_refs.items()}}


def _reference(ref: Mapping[str, Any]) -> dict[str, Any]:
    if ref.get("kind") == "manifest":
        field = {FIELD: ref[FIELD]} if FIELD in ref else {}
        return {"manifest": ref.get("count"), "extracted": ref.get("extracted"), **field}
    meta = ref.get("meta", {})
    return {"sha256": meta.get("digest") or meta.get("sha256")}


def _error(error: Any) -> Any:
    if not isinstance(error, Mapping):
        return None
    found = {name: error[name] for name in OF_ERROR if error.get(name) is not None}
    # an error may be any object that a step reported
    if isinstance(code := found.get("code"), str):
        found["code"] = former_code(code)
    return found
