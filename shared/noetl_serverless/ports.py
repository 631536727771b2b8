"""The ports: what the services ask of the world.

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
    ReportedFact,
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
        """As `EventStore.read_inbox`."""
        ...

    def quarantined(self) -> QuarantinedExecution | None: ...

    def issued(self) -> list[Event]:
        """What the rows of all commands and timers that are out are made of: see `projections.project`."""
        ...

    def ended_children(self) -> list[LoadedExecution]:
        """Of the children it waits for, those that have ended. The others cannot end before the transaction does."""
        ...

    def running_children(self) -> list[str]:
        """Of all that it has started, those that have not ended."""
        ...


class EventStore(Protocol):
    """The logs of executions, and what is made of them: states, commands with their leases, timers, inboxes.

    Ids are decimal texts. Every method raises errors.Unavailable while the store is away.
    """

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        """Those of the executions that exist, each with all events folded into its state."""
        ...

    async def events(self, execution_id: str, after: int = 0, limit: int = 100_000) -> list[Event]:
        """At most `limit` events behind the seq `after`, in order; none if there is no such execution."""
        ...

    async def starts_by_key(self, keys: Sequence[str]) -> dict[str, IdempotentStart]:
        """What those of the idempotency keys have started that have started anything."""
        ...

    async def commit(self, parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        """Write each part whole or not at all; those refused (head moved, fence stale) are missing from `good`. Raises
        UnstorableCommit if one of them cannot be stored; then none is written."""
        ...

    async def commit_exclusively(
        self, execution_id: str, decide: Callable[[LockedExecution], ExecutionCommit | None]
    ) -> tuple[ExecutionCommit, CommitResult] | None:
        """Commit what `decide` makes of the execution, while nobody else can commit to it. None if it makes nothing of
        it, or there is no such execution. Raises UnstorableCommit, and what `decide` raises."""
        ...

    # -- inboxes

    async def read_inbox(self, execution_id: str) -> Inbox:
        """No more than INBOX_FACTS, nor than it takes to have INBOX_BYTES; one at least, if there is any."""
        ...

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        """Close commands and put their facts into the inbox, without waiting for the execution's row. Returns
        (execution id, command id, fence) of those whose fence was good. Raises UnstorableCommit, and then none is."""
        ...

    async def clear_inbox(self, execution_id: str) -> None:
        """Forget the inbox of an execution that has ended."""
        ...

    async def executions_with_inbox(self, limit: int, after: str = "0") -> list[str]:
        """At most `limit` executions with facts in their inbox, by id, those behind the id `after`."""
        ...

    # -- leases

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        """Lease pending commands of the pool: those named, or with None whatever waits, in turn among executions."""
        ...

    async def recover_leases(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        """Everything the worker holds beside `holding`, each lease prolonged to `lease` seconds from now."""
        ...

    async def loop_opened(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        """The payload of the event that opened the loop, which must exist."""
        ...

    async def extend_leases(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        """Prolong leases to `lease` seconds from now; returns (execution id, command id, fence) of those that are
        still the worker's."""
        ...

    async def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        """Give back `held`, which was not run, and `begun`, which was not run to its end, with a note of who had that;
        returns (pool, key) of what waits again."""
        ...

    async def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        """Give back what is held beyond its lease and was delivered fewer than `deliveries` times, at most `limit`
        commands; returns (pool, key) of each."""
        ...

    async def undeliverable(self, deliveries: int, limit: int) -> list[DeadLetter]:
        """At most `limit` commands held beyond their lease that were delivered `deliveries` times or more."""
        ...

    async def add_dead_letter(self, dead: DeadLetter) -> None:
        """Keep the command in the dead-letter state, for people to look at."""
        ...

    # -- what there is to do

    async def pools_with_pending(self, age: float) -> list[str]:
        """Pools with commands that have waited for `age` seconds or more."""
        ...

    async def pending_work(self, age: float) -> PendingWork:
        """What there is to do; commands count as waiting after `age` seconds."""
        ...

    async def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        """The timers whose time has come, those due first in front, from `after` on."""
        ...

    # -- quarantine

    async def list_quarantined(self, limit: int, after: str = "0") -> list[QuarantinedExecution]:
        """What is in quarantine, by id, behind the id `after`; without facts, which may be many and large."""
        ...

    async def get_quarantined(self, execution_id: str) -> QuarantinedExecution | None:
        """The execution with its facts, if it is in quarantine."""
        ...

    # -- children

    async def running_children(self, execution_id: str) -> list[str]:
        """The executions that it has started and that have not ended."""
        ...

    async def is_descendant(self, execution_id: str, above: str) -> bool:
        """Whether `above` has started this execution, or one that has, ... ; archived ones count, too."""
        ...

    async def ensure_partitions(self) -> None:
        """Make the partitions of this month and the next."""
        ...


class CatalogEntry(Protocol):
    """A version of a playbook."""

    @property
    def catalog_id(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def hash(self) -> str: ...
    @property
    def content(self) -> str: ...


class Catalog(Protocol):
    """Playbooks that are registered. Each raises errors.NotFound."""

    async def get(self, path: str, version: int | None = None) -> CatalogEntry:
        """The version, or the latest."""
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
        """The secret's value; KeyError if there is none of that name."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the result store put something."""

    store: str
    key: str
    bytes: int
    sha256: str


class ResultStore(Protocol):
    """Bytes by key, immutable once written."""

    async def put(self, key: str, data: bytes) -> Stored: ...

    async def get(self, key: str) -> bytes:
        """KeyError if it is not there."""
        ...

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """A part of it, as far as there is one; KeyError if it is not there."""
        ...

    async def delete(self, key: str) -> None: ...

    def list(self, prefix: str) -> AsyncIterator[str]: ...


class Host(Protocol):
    """What a function asks of where it runs."""

    def remaining(self) -> float:
        """Seconds this invocation may still run."""
        ...
