"""Commits transitions to the store, and notifies those who wait for what they issue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..engine import events as e
from ..engine.compensation import is_owed
from ..engine.events import Event
from ..engine.state import State
from ..errors import Busy, Conflict, InvalidRequest, NotFound, Problem, Unavailable
from ..limits import PAYLOADS_BYTES
from ..ports import EventStore, LockedExecution
from ..protocol import ClaimedCommand, Held
from ..records import Claimant, CommitResult, ExecutionCommit, Inbox, Lease, LoadedExecution, UnstorableCommit
from ..telemetry import metrics
from .children import resolve_child_again
from .execution_cache import ExecutionCache
from .handover import Handover
from .notifications import Notifications
from .pauses import due_times, with_timers
from .payloads import PAYLOAD_REF, Payloads, payload_bytes
from .plans import Plans
from .quarantine import drop_transition, retry_transition
from .start import new_child
from .transition import Transition

logger = logging.getLogger(__name__)

# how often a commit that lost its race is decided again before Busy is raised
MAX_COMMIT_ATTEMPTS = 12
# how often a cancellation races for the row before it locks it
MAX_OPTIMISTIC_CANCELS = 3
# facts of which one commit takes one: it moves the timers as one pause has
PAUSING = (e.PAUSED, e.RESUMED)
# limited commands that are notified after an end that may have freed them
MAX_STARTABLE = 64


class Commits:
    def __init__(
        self,
        event_store: EventStore,
        playbooks: Plans,
        payloads: Payloads,
        notifications: Notifications,
        clock: Callable[[], int],
        on_commit: Callable[[LoadedExecution], None],
        handover: Handover,
    ) -> None:
        """`clock`: milliseconds since 1970; `on_commit` is called with every execution that was committed.
        `handover` gets what is issued by commits that no worker has asked for."""
        self.cache = ExecutionCache(event_store)
        self._event_store = event_store
        self._playbooks = playbooks
        self._payloads = payloads
        self._notifications = notifications
        self._clock = clock
        self._on_commit = on_commit
        self._handover = handover

    async def transition(self, execution: LoadedExecution, worker: str | None = None) -> Transition:
        return Transition(execution, await self._playbooks.plan(execution.plan_hash), worker)

    async def commit_transitions(
        self, transitions: Sequence[Transition], claimant: Claimant | None = None, *, quarantines: bool = True
    ) -> tuple[CommitResult, dict[str, LoadedExecution]]:
        """Write the transitions, and open the children they start in the same transaction. Also returns the executions.

        If one cannot be stored, each is written by itself, and that one is put into quarantine (without `quarantines`,
        UnstorableCommit is raised and nothing is written); so is one whose children cannot be opened.
        """
        commits = [commit for transition in transitions for commit in await self._to_commits(transition)]
        try:
            result = await self.write(commits, claimant)
        except UnstorableCommit as error:
            if not quarantines:
                raise
            if len(transitions) > 1:
                return await self._commit_separately(transitions, claimant)
            logger.error(
                "an execution cannot be stored: %s",
                error,
                extra={"execution_id": transitions[0].execution.execution_id},
            )
            return await self._quarantine(transitions[0], error)
        executions = {commit.execution.execution_id: commit.execution for commit in commits}
        # a fair claim may lease a command of another execution, or of one whose commit lost its race
        others = [lease for lease in result.leases if lease.execution_id not in result.committed]
        if claimant is not None and others:
            committed_leases = [lease for lease in result.leases if lease.execution_id in result.committed]
            others, more = await self.readable(claimant.worker, others)
            result, executions = replace(result, leases=committed_leases + others), {**executions, **more}
        return result, executions

    async def _to_commits(self, transition: Transition) -> list[ExecutionCommit]:
        """The commit of a transition, and then those that open its children. Raises Unavailable."""
        try:
            return [
                transition.to_commit(),
                *[await self._child_commit(transition, started) for started in transition.started_children],
            ]
        except Unavailable:
            raise
        except Exception as error:
            logger.exception("a child cannot be opened", extra={"execution_id": transition.execution.execution_id})
            return [transition.quarantined(error).to_commit()]

    async def _quarantine(
        self, transition: Transition, error: UnstorableCommit
    ) -> tuple[CommitResult, dict[str, LoadedExecution]]:
        """Put the execution into quarantine, with the applied facts unless these are what cannot be stored."""
        commit = transition.quarantined(error).to_commit()
        try:
            result = await self.write([commit])
        except UnstorableCommit:
            commit = transition.quarantined(error, keep_facts=False).to_commit()
            result = await self.write([commit])
        return result, {commit.execution.execution_id: commit.execution}

    async def _commit_separately(
        self, transitions: Sequence[Transition], claimant: Claimant | None
    ) -> tuple[CommitResult, dict[str, LoadedExecution]]:
        combined = CommitResult(frozenset(), [], [], [])
        all_executions: dict[str, LoadedExecution] = {}
        for transition in transitions:
            result, executions = await self.commit_transitions([transition], claimant)
            if claimant is not None:
                made_fair_claim = claimant.fair_claim and bool(result.committed)
                limit = max(0, claimant.limit - len(result.leases) + made_fair_claim)
                claimant = replace(claimant, limit=limit, fair_claim=claimant.fair_claim and not made_fair_claim)
            combined = CommitResult(
                combined.committed | result.committed,
                combined.leases + result.leases,
                combined.pending + result.pending,
                combined.with_new_facts + result.with_new_facts,
                startable=combined.startable + result.startable,
            )
            all_executions |= executions
        return combined, all_executions

    async def write(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        """Write in one transaction; then cache what was written, and notify those who wait for it. What is issued is
        leased to the claimant or, without one, to a worker in this process, to which it is handed over."""
        offer = self._handover.offer(commits) if claimant is None else None
        if offer is None:
            return await self._write(commits, claimant)
        result: CommitResult | None = None
        executions = {commit.execution.execution_id: commit.execution for commit in commits}
        try:
            result = await self._write(commits, offer)
            # a limited command of another execution may come before those that were issued
            others = [lease for lease in result.leases if lease.execution_id not in executions]
            if others:
                executions |= (await self.readable(offer.worker, others))[1]
        finally:
            await self._handover.complete(offer, result, executions)
        return replace(result, leases=[])

    async def _write(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None) -> CommitResult:
        with metrics.commit_seconds.time():
            result = await self._event_store.commit(commits, claimant)
        if claimant is not None and claimant.fair_claim and result.committed:
            result = await self._with_fair_claim(result, claimant)
        if claimant is not None and result.startable:
            result = await self._with_startable(result, claimant)
        await self._after_commit(commits, result)
        return result

    async def _with_fair_claim(self, result: CommitResult, claimant: Claimant) -> CommitResult:
        """Add one command by a fair claim. Commands that the commit issued take part; one that is claimed is no longer
        pending, so no worker is notified of it."""
        try:
            leases = await self._event_store.claim(replace(claimant, limit=1), None)
        except Problem as error:
            # the commit succeeded, and the next one makes a fair claim again
            logger.warning("the fair claim failed: %s", error)
            return result
        claimed = {(lease.execution_id, lease.command_id) for lease in leases}
        pending = [entry for entry in result.pending if (entry[1].execution_id, entry[1].command_id) not in claimed]
        return replace(result, leases=[*result.leases, *leases], pending=pending)

    async def _with_startable(self, result: CommitResult, claimant: Claimant) -> CommitResult:
        """Add limited commands that may begin now, as many as there is room for: those that the commit issued, or
        others that wait longer for what it has freed. Only a claim knows, after the commit, how many may."""
        room = claimant.limit + claimant.fair_claim - len(result.leases)
        keys = [key for pool, key in result.startable if pool == claimant.pool]
        if room <= 0 or not keys:
            return result
        try:
            leases = await self._event_store.claim(replace(claimant, limit=room), keys)
        except Problem as error:
            # the commit succeeded, and they are notified
            logger.warning("limited commands could not be claimed: %s", error)
            return result
        claimed = {(lease.execution_id, lease.command_id) for lease in leases}
        left = [entry for entry in result.startable if (entry[1].execution_id, entry[1].command_id) not in claimed]
        return replace(result, leases=[*result.leases, *leases], startable=left)

    async def notify_startable(self) -> None:
        """After an end whose commit knew no plan, and so not what it has freed."""
        try:
            found = await self._event_store.startable(MAX_STARTABLE)
        except Problem as error:
            # the commit succeeded, and the reconciler looks for them, too
            logger.warning("limited commands are notified later: %s", error)
            return
        await self._notifications.notify(found.commands)
        if found.next_start is not None:
            await self._notifications.schedule_wakeup(found.next_start)

    async def readable(self, worker: str, leases: Sequence[Lease]) -> tuple[list[Lease], dict[str, LoadedExecution]]:
        """The leases with their executions; those that only a newer release can read are released."""
        if not leases:
            return [], {}
        executions = await self.cache.get(lease.execution_id for lease in leases)
        await self.return_to_newer(worker, [lease for lease in leases if _is_newer(lease, executions)])
        return [lease for lease in leases if not _is_newer(lease, executions)], executions

    async def return_to_newer(self, worker: str, leases: Sequence[Lease | ClaimedCommand]) -> None:
        """Release what only a newer release can read: it does not count as a delivery, and no worker is notified."""
        if leases:
            await self._event_store.release_leases(worker, [Held.of(lease) for lease in leases])

    async def _after_commit(self, commits: Sequence[ExecutionCommit], result: CommitResult) -> None:
        for commit in commits:
            id = commit.execution.execution_id
            metrics.commits.labels("committed" if id in result.committed else "lost").inc()
            if id in result.committed:
                self.cache.put(commit.execution)
                self._on_commit(commit.execution)
                if commit.quarantine:
                    _log_quarantine(commit)
            else:
                self.cache.evict(id)
        await self._notifications.notify([*result.pending, *result.startable])
        if result.next_start is not None:
            await self._notifications.schedule_wakeup(result.next_start)
        if any(_ends_unplanned(commit) for commit in commits if commit.execution.execution_id in result.committed):
            await self.notify_startable()
        if timers := [
            due for commit in commits if commit.execution.execution_id in result.committed for due in _timers(commit)
        ]:
            await self._notifications.schedule_wakeup((min(timers) - self._clock()) / 1000)

    async def commit_fact(
        self,
        execution_id: str,
        fact: Event | None = None,
        closes: tuple[str, int] | None = None,
        claimant: Claimant | None = None,
        check: Callable[[State], None] | None = None,
    ) -> tuple[CommitResult, dict[str, LoadedExecution]] | None:
        """Process the inbox, and then `fact`, unless `check` raises for the state before it. None if there is nothing
        to process, or the execution has ended, or `fact` closes a timer that is no longer set, or that must not fire
        now. Raises NotFound, and Busy if others always came first or only a newer release can read the execution.

        A fact with a `check` is somebody's request: if it cannot be stored, nobody but who sent it is told, by
        InvalidRequest, and the execution goes on."""
        last_result: tuple[CommitResult, dict[str, LoadedExecution]] | None = None
        attempt, unstorable = 0, False
        while attempt < MAX_COMMIT_ATTEMPTS:
            if attempt:
                await asyncio.sleep(0.001 * attempt)
            async with self.cache.exclusive([execution_id]):
                transition = await self._inbox_transition(execution_id, fact, closes, check)
                if transition is None:
                    return last_result if fact is None else None
                try:
                    result, executions = await self.commit_transitions(
                        [transition],
                        None if transition.incomplete else claimant,
                        quarantines=check is None or transition.incomplete,
                    )
                except UnstorableCommit as error:
                    if not transition.consumed:
                        raise InvalidRequest(f"this cannot be stored in execution {execution_id}: {error}") from None
                    unstorable = True
            if unstorable:
                # perhaps it is what was in the inbox: without the request, that is put into quarantine
                await self.commit_fact(execution_id)
                attempt, unstorable = attempt + 1, False
                continue
            if not result.committed:
                attempt += 1
                continue
            await self.process_inboxes(result.with_new_facts)
            if not transition.incomplete:
                return result, executions
            # the rest of the inbox, and then `fact`
            last_result, attempt = (result, executions), 0
        raise Busy(f"execution {execution_id} is very busy; try again")

    async def commit_cancellation(self, execution_id: str, fact: Event) -> bool:
        """Append a requested end; False if the execution has ended already, or was dropped from quarantine. If it loses
        the race for the row too often it locks the row, so that no busy loop can keep it out. Raises NotFound."""
        for _ in range(MAX_OPTIMISTIC_CANCELS):
            async with self.cache.exclusive([execution_id]):
                execution = await self._load_fresh(execution_id)
                if execution.state.quarantined:
                    # its state does not show whether it was dropped; its row in quarantine does
                    break
                commit = _end_commit(execution, await self._event_store.read_inbox(execution_id), fact)
                if commit is None:
                    return False
                result = await self.write([commit])
            if result.committed:
                await self.process_inboxes(result.with_new_facts)
                return True
        committed = await self._event_store.commit_exclusively(
            execution_id, lambda locked: _locked_end_commit(locked, fact)
        )
        if committed is None:
            return False
        commit, result = committed
        await self._after_commit([commit], result)
        await self.process_inboxes(result.with_new_facts)
        return True

    async def process_inbox(self, execution_id: str) -> bool:
        """Process the inbox of an execution; whether this advanced it."""
        return await self.commit_fact(execution_id) is not None

    async def process_inboxes(self, execution_ids: Sequence[str]) -> None:
        """Advance executions that received a fact from a commit; what fails here is left to the reconciler."""
        for id in execution_ids:
            try:
                await self.process_inbox(id)
            except Problem as error:
                logger.warning("execution %s is advanced later: %s", id, error)
            except Exception:
                # the commit before it is good, and so is its response
                metrics.isolated_failures.labels("follow").inc()
                logger.exception("execution %s could not be advanced", id)

    async def commit_retry(self, execution_id: str, at: int) -> CommitResult:
        """Let an execution in quarantine continue as it was; `at` in ms. Raises NotFound, Conflict if it is not in
        quarantine or still cannot continue, and Unavailable."""
        async with self.cache.exclusive([execution_id]):
            plan = await self._playbooks.plan((await self._load_fresh(execution_id)).plan_hash)
            try:
                committed = await self._event_store.commit_exclusively(
                    execution_id, lambda locked: retry_transition(locked, plan, at).to_commit()
                )
            except UnstorableCommit as error:
                raise Conflict(f"execution {execution_id} cannot be stored with what follows: {error}") from error
            if committed is None:
                raise NotFound(f"there is no execution {execution_id}")
            commit, result = committed
            await self._after_commit([commit], result)
        await self.process_inboxes([execution_id, *result.with_new_facts])
        return result

    async def commit_drop(self, execution_id: str, at: int, by: Mapping[str, Any] | None) -> bool:
        """Take an execution out of quarantine and leave it as it ended; `at` in ms. False if it is not in there."""

        def commit(locked: LockedExecution) -> ExecutionCommit | None:
            transition = drop_transition(locked, at, by)
            return None if transition is None else transition.to_commit()

        async with self.cache.exclusive([execution_id]):
            committed = await self._event_store.commit_exclusively(execution_id, commit)
            if committed is None:
                return False
            await self._after_commit([committed[0]], committed[1])
        await self.process_inboxes(committed[1].with_new_facts)
        return True

    async def _with_timers(self, transition: Transition, fact: Event) -> Event:
        """A fact that pauses the execution, or lets it go on, with what the log has to know of its timers."""
        if fact.type not in PAUSING:
            return fact
        rows = await self._event_store.timers(transition.execution.execution_id) if fact.type == e.PAUSED else {}
        return with_timers(fact, transition.state, due_times(rows, transition.events, transition.state))

    async def _inbox_transition(
        self,
        execution_id: str,
        fact: Event | None,
        closes: tuple[str, int] | None,
        check: Callable[[State], None] | None = None,
    ) -> Transition | None:
        execution = await self._load_fresh(execution_id)
        if execution.is_from_newer_release:
            raise Busy(f"execution {execution_id} was written by a newer release: {execution.read_error}")
        if execution.state.ended:
            await self._event_store.clear_inbox(execution_id)
            return None
        inbox = await self._event_store.read_inbox(execution_id)
        failure: Event | None = None
        if cancellations := [inbox_fact for _, inbox_fact in inbox.facts if inbox_fact.type == e.CANCELLED]:
            failure = await self._failure_of_parent(execution, cancellations)
            if failure is None:
                return _end_transition(execution, inbox, cancellations[0])
        transition = await self.transition(execution)
        transition.incomplete = inbox.more
        payload_size = 0
        for inbox_id, in_order in inbox.facts:
            if in_order.type in PAUSING and _pauses(transition):
                transition.incomplete = True
                break
            inbox_fact = failure if failure is not None and in_order.type == e.CANCELLED else in_order
            payload_size += payload_bytes(inbox_fact.payload.get("child", {}).get(PAYLOAD_REF))
            if payload_size > PAYLOADS_BYTES and transition.events:
                transition.incomplete = True
                break
            if transition.state.ended and not transition.quarantine:
                transition.consumed.append(inbox_id)
            else:
                now = self._clock()
                resolved = await resolve_child_again(self._playbooks, self._payloads, transition, inbox_fact, now)
                transition.apply(await self._with_timers(transition, resolved), inbox_id=inbox_id)
        if fact is not None and fact.type in PAUSING and _pauses(transition):
            transition.incomplete = True
        # a state that cannot be read does not list its timers; the commit checks the timer's row
        is_timer_gone = (
            closes is not None and execution.read_error is None and not transition.state.has_timer(closes[0])
        )
        # the timer fires once the execution goes on
        is_timer_gone |= closes is not None and transition.state.paused is not None
        if fact is not None and not transition.incomplete and not is_timer_gone and not transition.state.ended:
            if check is not None:
                check(transition.state)
            transition.apply(await self._with_timers(transition, fact), closes)
        return transition if transition.events else None

    async def _failure_of_parent(self, execution: LoadedExecution, cancellations: Sequence[Event]) -> Event | None:
        """What stands for its cancellations, if nobody has asked for one and it has something to undo."""
        if execution.read_error is not None or not all(e.UNDO in it.payload for it in cancellations):
            return None
        if not is_owed(await self._playbooks.plan(execution.plan_hash), execution.state):
            return None
        return replace(cancellations[0], type=e.PARENT_FAILED, payload={"reason": cancellations[0].payload["reason"]})

    async def _load_fresh(self, execution_id: str) -> LoadedExecution:
        """The execution as it is in the store; raises NotFound."""
        execution = (await self.cache.get([execution_id], fresh=True)).get(execution_id)
        if execution is None:
            raise NotFound(f"there is no execution {execution_id}")
        return execution

    async def _child_commit(self, parent: Transition, started: Event) -> ExecutionCommit:
        plan = await self._playbooks.plan(started.payload["plan_hash"])
        payload = await self._payloads.load_payload(parent.execution.execution_id, started.payload)
        new = new_child(parent.execution, started, plan, payload)
        transition = Transition(new.execution, plan)
        transition.apply(new.fact)
        if parent.state.paused is not None:
            # one that a worker has still requested begins with the others
            fact = Event(e.PAUSED, new.fact.at, payload={"reason": "its parent is paused"})
            transition.apply(await self._with_timers(transition, fact))
        return transition.to_commit(new.row)


def _pauses(transition: Transition) -> bool:
    """Whether it has paused the execution, or let it go on."""
    return any(applied.fact.type in PAUSING for applied in transition.applied)


def _is_newer(lease: Lease, executions: Mapping[str, LoadedExecution]) -> bool:
    return lease.execution_id in executions and executions[lease.execution_id].is_from_newer_release


def _end_transition(execution: LoadedExecution, inbox: Inbox, fact: Event) -> Transition | None:
    """The transition that ends an execution by `fact`; None if it has ended. It needs no plan, and it discards what
    waits in the inbox, which comes too late."""
    if execution.state.ended and not execution.state.quarantined:
        return None
    transition = Transition(execution, None)
    transition.apply(fact)
    transition.consumed += [inbox_id for inbox_id, _ in inbox.facts]
    return transition


def _end_commit(execution: LoadedExecution, inbox: Inbox, fact: Event) -> ExecutionCommit | None:
    transition = _end_transition(execution, inbox, fact)
    return None if transition is None else transition.to_commit()


def _locked_end_commit(locked: LockedExecution, fact: Event) -> ExecutionCommit | None:
    if locked.execution.state.quarantined and locked.quarantined() is None:
        return None
    return _end_commit(locked.execution, locked.inbox(), fact)


def _log_quarantine(commit: ExecutionCommit) -> None:
    assert commit.quarantine is not None
    error, id = commit.quarantine["error"], commit.execution.execution_id
    metrics.quarantined.labels(error["code"]).inc()
    extra = {"operation": "quarantine", "execution_id": id, "place": error["place"], "path": commit.execution.path}
    logger.error("audit: execution %s is in quarantine: %s", id, error["message"], extra=extra)


def _ends_unplanned(commit: ExecutionCommit) -> bool:
    return commit.pool_of is None and commit.ended_at_ms is not None


def _timers(commit: ExecutionCommit) -> list[int]:
    """When the timers that it sets, or lets go on, are due, in ms."""
    resumed = commit.pause["timers"].values() if commit.pause is not None and commit.pause["at"] is None else ()
    return [*(event.payload["due"] for event in commit.events if event.type == e.TIMER_SET), *resumed]
