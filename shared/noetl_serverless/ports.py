"""The ports: what the services need from outside.

Each has an in-memory fake in `testing`, which passes the same contract tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from .engine.events import Event
from .protocol import CommandKey, Held
from .records import (
    EPOCH,
    Claimant,
    CommitResult,
    DeadLetter,
    DueTimer,
    ExecutionCommit,
    IdempotentStart,
    Inbox,
    Lease,
    LoadedExecution,
    PendingWork,
    QuarantinedExecution,
    RelatedRestart,
    ReportedFact,
    Startable,
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """One notification taken from the bus; `ack` it once the command is claimed or known to be gone."""

    key: CommandKey
    token: Any


class Notifier(Protocol):
    """Hints that a command waits. Losing one costs latency, never a step."""

    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None: ...

    async def pull(self, pool: str, limit: int, wait: float) -> list[Pointer]:
        """Up to `limit` pointers; returns at once if there are any, else after at most `wait` seconds."""
        ...

    async def ack(self, pointers: Sequence[Pointer]) -> None: ...

    async def close(self) -> None: ...


class LockedExecution(Protocol):
    """An execution that nobody else can commit to, until the transaction ends."""

    execution: LoadedExecution

    def inbox(self) -> Inbox:
        """Like `EventStore.read_inbox`."""
        ...

    def quarantined(self) -> QuarantinedExecution | None: ...

    def issued(self) -> list[Event]:
        """The events from which `projections.project` makes the rows of all open commands and timers."""
        ...

    def ended_children(self) -> list[LoadedExecution]:
        """The children it waits for that have ended. The others cannot end before the transaction does."""
        ...

    def running_children(self) -> list[str]:
        """The children it has started that have not ended."""
        ...


class EventStore(Protocol):
    """The logs of executions, with their states, commands and leases, timers and inboxes.

    Ids are decimal strings. Every method raises errors.Unavailable while the store is unavailable.
    """

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        """The executions that exist, each with all events folded into its state."""
        ...

    async def events(self, execution_id: str) -> list[Event]:
        """The whole log, in order; empty if the execution does not exist."""
        ...

    async def starts_by_key(self, keys: Sequence[str]) -> dict[str, IdempotentStart]:
        """What each idempotency key has started; keys that have started nothing are left out."""
        ...

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        """Write each commit completely or not at all; those refused (head moved, fence stale) are missing from
        `committed`. Raises UnstorableCommit if one of them cannot be stored; then none is written."""
        ...

    async def commit_exclusively(
        self, execution_id: str, decide: Callable[[LockedExecution], ExecutionCommit | None]
    ) -> tuple[ExecutionCommit, CommitResult] | None:
        """Commit what `decide` returns for the execution, while nobody else can commit to it. None if `decide` returns
        None or the execution does not exist. Raises UnstorableCommit, and what `decide` raises."""
        ...

    # -- inboxes

    async def read_inbox(self, execution_id: str) -> Inbox:
        """At most INBOX_FACTS facts, and no more than it takes to reach INBOX_BYTES; at least one, if there is any."""
        ...

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        """Close commands and put their facts into the inbox, without waiting for the execution's row. Returns
        (execution id, command id, fence) of those whose fence was valid. Raises UnstorableCommit; then none is put."""
        ...

    async def clear_inbox(self, execution_id: str) -> None:
        """Delete the inbox of an execution that has ended."""
        ...

    async def executions_with_inbox(self, limit: int, after: str = "0") -> list[str]:
        """At most `limit` executions with facts in their inbox, in order of id, with ids above `after`."""
        ...

    # -- leases

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        """Lease pending commands of the pool: those in `keys`, or with None any, by fair claim."""
        ...

    async def recover_leases(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        """All leases of the worker except those in `holding`, each extended to `lease` seconds from now."""
        ...

    async def loop_opened(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        """The payload of the event that opened the loop, which must exist."""
        ...

    async def extend_leases(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        """Extend leases to `lease` seconds from now; returns (execution id, command id, fence) of those that the worker
        still holds."""
        ...

    async def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        """Release `held`, which were not run, and `begun`, which were not run to the end; for the latter the lease is
        recorded as lost. Returns (pool, key) of the commands that are pending again."""
        ...

    async def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        """Make at most `limit` commands pending again whose lease has expired and that were delivered fewer than
        `deliveries` times; returns (pool, key) of each."""
        ...

    async def undeliverable(self, deliveries: int, limit: int) -> list[DeadLetter]:
        """At most `limit` commands whose lease has expired and that were delivered `deliveries` times or more."""
        ...

    async def add_dead_letter(self, dead_letter: DeadLetter) -> None:
        """Keep the command as a dead letter, for inspection."""
        ...

    # -- pending work

    async def pools_with_pending(self, age: float) -> list[str]:
        """Pools with commands that have waited for `age` seconds or more."""
        ...

    async def pending_work(self, age: float) -> PendingWork:
        """Which kinds of work are pending; commands count once they have waited for `age` seconds."""
        ...

    async def startable(self, limit: int) -> Startable:
        """At most `limit` limited commands that may begin now, of each limit those that wait longest, and when a rate
        lets the next one begin."""
        ...

    async def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        """At most `limit` timers that are due, from `after` on, the earliest first."""
        ...

    async def timers(self, execution_id: str) -> dict[str, int]:
        """When its timers are due, by name, in ms."""
        ...

    # -- quarantine

    async def list_quarantined(self, limit: int, after: str = "0") -> list[QuarantinedExecution]:
        """At most `limit` executions in quarantine, by id, with ids above `after`; without facts, which may be many and
        large."""
        ...

    async def get_quarantined(self, execution_id: str) -> QuarantinedExecution | None:
        """The execution with its facts, if it is in quarantine."""
        ...

    # -- children

    async def running_descendants(self, execution_id: str) -> list[str]:
        """Those of the executions that it has started, directly or through others, that have not ended; also below
        those that have. Each before those that it has started."""
        ...

    async def is_descendant(self, execution_id: str, ancestor: str) -> bool:
        """Whether `ancestor` is the parent of this execution, or its parent's parent, and so on, or goes on with this
        execution or with one of those above it, also if archived."""
        ...

    async def related_restarts(self, execution_id: str) -> list[RelatedRestart]:
        """What this execution goes on with at last, and all that go on with that, directly or through others; this one
        among them, and archived ones, too. By id.

        A commit that opens an execution has the ids of these as `related` in its row, and `undoes`: whether it would
        undo what it takes over if it failed. It writes nothing if there is another one then, and one of the two would;
        nor if this one would, and any of them is open."""
        ...

    async def running_restarts(self, execution_id: str) -> dict[str, str]:
        """What still runs of those that `related_restarts` names, where one of these has ended or undoes what it did:
        this one itself, and its descendants, as in `running_descendants`, with those that go on with a descendant, and
        the descendants of these; of each, which of them it is, or is below.

        A commit that opens an execution with these ids as `seen` in its row writes nothing if there are others then."""
        ...

    async def ensure_partitions(self) -> None:
        """Create the partitions of this month and the next."""
        ...


class CatalogEntry(Protocol):
    """A version of a playbook, or of another resource."""

    @property
    def catalog_id(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def content(self) -> str: ...


class Catalog(Protocol):
    """What is registered. Each method raises errors.NotFound; what is deleted is found by its hash alone."""

    async def get(self, path: str, version: int | None = None) -> CatalogEntry:
        """The given version, or the latest."""
        ...

    async def by_id(self, catalog_id: int) -> CatalogEntry: ...

    async def text(self, hash: str) -> str:
        """The playbook whose canonical text has this hash."""
        ...


class KeyValue(Protocol):
    """Small values with a time to live: sessions."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes) -> None: ...

    async def delete(self, key: str) -> None: ...


class Invoker(Protocol):
    """Starts another function, now or after a delay, without waiting for its end. A hint, like a notification."""

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None: ...


class SecretStore(Protocol):
    async def read(self, name: str) -> str:
        """The secret's value; raises KeyError if no secret has that name."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Where the result store has put a value."""

    store: str
    key: str
    bytes: int


class ResultStore(Protocol):
    """Bytes by key, immutable once written: one tier. A write is all or nothing, and durable when it returns.

    Every method raises OSError or errors.Unavailable while the store is away, and errors.AccessDenied if it refuses.
    """

    name: str

    async def put(self, key: str, data: bytes) -> StoredObject:
        """ValueError for a key that would leave the store."""
        ...

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        """The first `size` bytes of an open file, whose position is neither used nor moved; never all of them in memory
        at once."""
        ...

    async def get(self, key: str) -> bytes:
        """Raises KeyError if the key does not exist."""
        ...

    async def get_file(self, key: str, file: int) -> int:
        """Write the object into an open, empty file, from its beginning; returns the bytes. Raises KeyError if the key
        does not exist. Never all of them in memory at once."""
        ...

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`, fewer at the end; raises KeyError if the key does not exist."""
        ...

    async def delete(self, key: str) -> None: ...

    def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix` and come after `after`, in order, also those of writes that did not end. Who
        takes a few of them does not pay for the others."""
        ...


class SignsUrls(Protocol):
    """A result store whose objects can be read by URL, without its credentials."""

    async def signed_url(self, key: str, seconds: int, *, content_type: str, filename: str) -> str:
        """A URL that GETs the object for `seconds`, at most SIGNED_URL_SECONDS (ValueError for more), and answers with
        this content type and, for saving it, this name. Whether the object exists is not looked at.

        Raises errors.AccessDenied if the identity may not sign, errors.Unavailable while nothing signs for it."""
        ...


class Host(Protocol):
    """What a function needs to know about its host."""

    def remaining(self) -> float:
        """Seconds this invocation may still run."""
        ...
