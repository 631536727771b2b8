"""Workers' reports: append the outcomes of commands, decide what follows, and lease it to the worker that reports.

A report that loses the race for an execution's row is decided again on the new row. If it loses again, it no longer
waits for the row: it closes its commands and leaves their facts in the inbox, which the row's next holder processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..commands.fact import KINDS, fact_of, references
from ..commands.issued_command import digest_of
from ..commands.reference import executions_of
from ..engine import events as e
from ..engine.events import Event
from ..engine.ids import started_at
from ..errors import Busy, InvalidPlaybook, InvalidRequest, Problem, ResultStoreUnavailable
from ..limits import PAYLOADS_BYTES
from ..ports import EventStore
from ..protocol import ClaimedCommand, Held, Outcome, ReportRequest, ReportResult
from ..records import Claimant, LoadedExecution, ReportedFact, UnstorableCommit
from ..telemetry import metrics
from .children import resolve_child
from .claims import Claims
from .commits import Commits
from .payloads import PAYLOAD_REF, Payloads, payload_bytes
from .plans import Plans
from .transition import Transition

logger = logging.getLogger(__name__)

# attempts to commit to an execution's row
MAX_ATTEMPTS = 2
# attempts for outcomes that are not left in the inbox: see `Reports._leave_in_inbox`
MAX_ATTEMPTS_WITH_REFERENCES = 12


@dataclass(slots=True)
class ReportBatch:
    """A worker's report: the outcomes not settled yet, by execution, and the results of the others."""

    request: ReportRequest
    pending: dict[str, list[Outcome]]
    results: dict[tuple[str, str, int], ReportResult] = field(default_factory=dict)
    commands: list[ClaimedCommand] = field(default_factory=list)
    # executions that received a fact and are to be advanced
    with_new_facts: list[str] = field(default_factory=list)
    # why outcomes that are not settled must be reported again
    deferrals: list[Problem] = field(default_factory=list)
    # whether a fair claim is still to be made
    fair_claim: bool = False

    @classmethod
    def of(cls, request: ReportRequest) -> ReportBatch:
        batch = cls(request, {}, fair_claim=request.turn and request.capacity > 0)
        reported = [outcome for outcome in request.outcomes if outcome.status != "released"]
        latest: dict[tuple[str, str], Outcome] = {}
        for outcome in reported:
            known = latest.get((outcome.execution_id, outcome.command_id))
            if known is None or outcome.fence > known.fence:
                latest[outcome.execution_id, outcome.command_id] = outcome
        for outcome in reported:
            if latest[outcome.execution_id, outcome.command_id] is outcome:
                batch.pending.setdefault(outcome.execution_id, []).append(outcome)
            else:
                batch.settle(outcome, "stale", "the command was claimed again, and is reported again")
        return batch

    def chunks_by_payload(self) -> Iterator[ReportBatch]:
        """Chunks to commit one after the other, so that none has more payloads to read than one commit may."""
        if not self.has_references():
            yield self
            return
        chunk: dict[str, list[Outcome]] = {}
        chunk_bytes = 0
        for id, outcomes in self.pending.items():
            for outcome in outcomes:
                size = payload_bytes(outcome.child.payload_ref) if outcome.child is not None else 0
                # a command that was run ahead stays with the one it follows from
                if chunk and chunk_bytes + size > PAYLOADS_BYTES and outcome.order is None:
                    yield replace(self, pending=chunk)
                    chunk, chunk_bytes = {}, 0
                chunk.setdefault(id, []).append(outcome)
                chunk_bytes += size
        if chunk:
            yield replace(self, pending=chunk)

    def has_references(self) -> bool:
        return any(item.child and item.child.payload_ref for items in self.pending.values() for item in items)

    def settle(
        self, outcome: Outcome, status: Literal["accepted", "stale", "refused"], detail: str | None = None
    ) -> None:
        key = (outcome.execution_id, outcome.command_id, outcome.fence)
        if key not in self.results:
            names = {"execution_id": outcome.execution_id, "command_id": outcome.command_id}
            self.results[key] = ReportResult(**names, status=status, detail=detail)
            metrics.outcomes.labels(status).inc()

    def defer(self, outcome: Outcome, problem: Problem) -> None:
        """Leave it to be reported again. The others are settled without it, and are stale if reported again with it."""
        id = outcome.execution_id
        self.pending[id] = [other for other in self.pending[id] if other is not outcome]
        self.deferrals.append(problem)

    def claimant(self) -> Claimant | None:
        """The claimant of what the next commit issues; None if the worker has no capacity left."""
        request = self.request
        free_slots = request.capacity - len(self.commands) - self.fair_claim
        if free_slots <= 0 and not self.fair_claim:
            return None
        return Claimant(request.worker_id, request.pool, request.lease, max(free_slots, 0), fair_claim=self.fair_claim)


class Reports:
    def __init__(
        self,
        event_store: EventStore,
        playbooks: Plans,
        payloads: Payloads,
        commits: Commits,
        claims: Claims,
        clock: Callable[[], int],
    ) -> None:
        self._event_store = event_store
        self._playbooks = playbooks
        self._payloads = payloads
        self._commits = commits
        self._claims = claims
        self._clock = clock

    async def process(self, batch: ReportBatch) -> None:
        """Settle everything in `batch.pending`, and claim what the worker's capacity allows. Raises Unavailable even if
        only a part fails; what has been committed is stale when it is reported again."""
        for chunk in batch.chunks_by_payload():
            await self._process_chunk(chunk)
            batch.fair_claim = chunk.fair_claim
        await self._commits.process_inboxes(batch.with_new_facts)
        if batch.deferrals:
            # an error response carries no commands
            await self._event_store.release_leases(
                batch.request.worker_id, [Held.of(command) for command in batch.commands]
            )
            raise batch.deferrals[0]

    async def _process_chunk(self, batch: ReportBatch) -> None:
        for attempt in range(MAX_ATTEMPTS_WITH_REFERENCES if batch.has_references() else MAX_ATTEMPTS):
            if batch.pending:
                async with self._commits.cache.exclusive(batch.pending):
                    await self._decide_and_commit(batch, fresh=attempt > 0)
        if batch.pending:
            await self._leave_in_inbox(batch)

    async def _decide_and_commit(self, batch: ReportBatch, fresh: bool) -> None:
        """Commit the outcomes with what follows from them; those that lose the race stay in `batch.pending`."""
        executions = await self._load(batch, fresh)
        leased = await self._still_leased(batch) if fresh else None
        transitions: dict[str, Transition] = {}
        for id, outcomes in list(batch.pending.items()):
            try:
                transition = (
                    await self._commits.transition(executions[id], batch.request.worker_id)
                    if id in executions
                    else None
                )
            except InvalidPlaybook as problem:
                # the outcomes will wait in the inbox for a release that can read the playbook
                logger.error("the playbook of execution %s cannot be read: %s", id, problem)
                continue
            for outcome in outcomes:
                try:
                    await self._apply_outcome(batch, transition, outcome, leased)
                except ResultStoreUnavailable as away:
                    batch.defer(outcome, away)
            if transition is not None and transition.events:
                transitions[id] = transition
            else:
                del batch.pending[id]
        if not transitions:
            return
        result, executions = await self._commits.commit_transitions(list(transitions.values()), batch.claimant())
        batch.commands += await self._claims.to_commands(result.leases, executions, batch.request.running)
        batch.with_new_facts += result.with_new_facts
        # a commit that lost all its races made no fair claim
        batch.fair_claim &= not result.committed
        for id in result.committed & transitions.keys():
            for outcome in batch.pending.pop(id):
                batch.settle(outcome, "accepted")

    async def _load(self, batch: ReportBatch, fresh: bool) -> dict[str, LoadedExecution]:
        """The executions of a batch; loaded again where the cached one does not know a reported command."""
        executions = await self._commits.cache.get(batch.pending, fresh)
        if not fresh:
            stale = [
                id
                for id, outcomes in batch.pending.items()
                if id in executions
                and any(item.command_id not in executions[id].state.commands for item in outcomes if item.order is None)
            ]
            if stale:
                executions.update(await self._commits.cache.get(stale, fresh=True))
        return executions

    async def _still_leased(self, batch: ReportBatch) -> set[tuple[str, str, int]]:
        """The commands of a batch that the worker still holds; their leases are extended."""
        outcomes = [item for items in batch.pending.values() for item in items if item.order is None]
        return await self._event_store.extend_leases(
            batch.request.worker_id, [Held.of(item) for item in outcomes], batch.request.lease
        )

    async def _apply_outcome(
        self,
        batch: ReportBatch,
        transition: Transition | None,
        outcome: Outcome,
        leased: set[tuple[str, str, int]] | None,
    ) -> None:
        key = (outcome.execution_id, outcome.command_id, outcome.fence)
        if transition is not None and transition.execution.is_from_newer_release:
            batch.settle(
                outcome, "stale", f"the execution was written by a newer release: {transition.execution.read_error}"
            )
        elif transition is not None and transition.execution.read_error is not None and not transition.state.ended:
            transition.quarantine_unread(_bare_fact(outcome, self._clock()))
            batch.settle(outcome, "stale", "the execution cannot be read, and is in quarantine")
        elif (
            transition is None
            or transition.execution.state.ended
            or outcome.command_id not in transition.state.commands
        ):
            batch.settle(outcome, "stale", "the worker no longer holds this command")
        elif outcome.order is not None:
            # under the lease of the command before it: written only if that one's fence is valid
            if _was_issued_here(transition, outcome):
                await self._apply_fact(batch, transition, outcome, None)
            else:
                batch.settle(
                    outcome, "stale", "this report did not issue the command, or issued it with another payload"
                )
        elif leased is not None and key not in leased:
            batch.settle(outcome, "stale", "the worker no longer holds this command")
        else:
            await self._apply_fact(batch, transition, outcome, (outcome.command_id, outcome.fence))

    async def _apply_fact(
        self, batch: ReportBatch, transition: Transition, outcome: Outcome, closes: tuple[str, int] | None
    ) -> None:
        fact = await self._fact_of(batch, transition, outcome)
        transition.refs += references(fact)
        transition.apply(fact, closes)

    async def _fact_of(self, batch: ReportBatch, transition: Transition, outcome: Outcome) -> Event:
        """The outcome as a fact; one that does not fit its command becomes an error of the step."""
        command = transition.state.commands[outcome.command_id]
        at = self._reported_at(transition, outcome)
        try:
            await self._check_owner(outcome)
            fact = fact_of(outcome, command, at, batch.request.worker_id)
        except InvalidRequest as problem:
            batch.settle(outcome, "refused", problem.detail)
            reason = {"kind": "engine", "code": "outcome.refused", "message": problem.detail, "retryable": False}
            identity = outcome.model_dump(include={"execution_id", "command_id", "fence"})
            refused = Outcome(**identity, status="error", error=reason)
            fact = fact_of(refused, command, at, batch.request.worker_id)
        starts_child = fact.type == e.CALL_PARKED and "child" in fact.payload
        return await resolve_child(self._playbooks, self._payloads, transition, fact) if starts_child else fact

    async def _check_owner(self, outcome: Outcome) -> None:
        """Raises InvalidRequest for a reference to a result of an execution that is neither this one nor below it: a
        parent may return a sub-playbook's result."""
        refs = [ref for ref in (outcome.ref, *outcome.set_refs.values()) if ref is not None]
        for id in sorted(set().union(*map(executions_of, refs)) - {outcome.execution_id}):
            if not await self._event_store.is_descendant(id, outcome.execution_id):
                raise InvalidRequest(
                    f"the reference leads into execution {id}, which is neither this one nor a descendant"
                )

    def _reported_at(self, transition: Transition, outcome: Outcome) -> int:
        """Now, or the worker's time, but never in the future nor before what the outcome follows from."""
        now = self._clock()
        if outcome.at is None:
            return now
        before = transition.events[-1].at if transition.events else started_at(outcome.execution_id)
        return min(now, max(outcome.at, before))

    async def _leave_in_inbox(self, batch: ReportBatch) -> None:
        """Leave the facts in the inbox, and process the inbox if nobody else does.

        Facts with references, to a child's payload or to values that are set, must be reported again instead: the inbox
        may be processed by an earlier release, which could not read them.
        """
        facts = []
        for id, execution in (await self._commits.cache.get(batch.pending, fresh=True)).items():
            transition = Transition(execution, None)
            for outcome in batch.pending[id]:
                if outcome.order is None and outcome.command_id in execution.state.commands:
                    try:
                        fact = await self._fact_of(batch, transition, outcome)
                    except ResultStoreUnavailable as away:
                        batch.defer(outcome, away)
                        continue
                    if PAYLOAD_REF in fact.payload.get("child", {}) or e.SET_REFS in fact.payload:
                        batch.defer(outcome, Busy("the execution is busy; report it again"))
                        continue
                    facts.append(
                        ReportedFact(
                            execution_id=id,
                            event=fact,
                            fence=outcome.fence,
                            worker=batch.request.worker_id,
                            refs=references(fact),
                        )
                    )
        accepted = await self._append_to_inbox(facts)
        for outcome in (item for items in batch.pending.values() for item in items):
            if (outcome.execution_id, outcome.command_id, outcome.fence) in accepted:
                batch.settle(outcome, "accepted")
            else:
                batch.settle(outcome, "stale", "the worker no longer holds this command")
        for id in sorted({id for id, _, _ in accepted}):
            await self._process_inbox(batch, id)
        if accepted and await self._may_free(batch):
            await self._commits.notify_startable()

    async def _may_free(self, batch: ReportBatch) -> bool:
        """Whether a command that was closed without a decision may have held a slot, which no commit then frees."""
        hashes = {execution.plan_hash for execution in (await self._commits.cache.get(batch.pending)).values()}
        try:
            plans = [await self._playbooks.plan(hash) for hash in sorted(hashes)]
        except InvalidPlaybook:
            return False
        return any(plan.has_slots for plan in plans)

    async def _append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        """If one cannot be stored, the others are appended one by one, and the lease of that one expires."""
        if not facts:
            return set()
        try:
            return await self._event_store.append_to_inbox(facts)
        except UnstorableCommit as error:
            if len(facts) > 1:
                return set().union(*[await self._append_to_inbox([fact]) for fact in facts])
            names = {"execution_id": facts[0].execution_id, "command_id": facts[0].event.command_id}
            logger.error("an outcome cannot be stored: %s", error, extra=names)
            return set()

    async def _process_inbox(self, batch: ReportBatch, id: str) -> None:
        try:
            committed = await self._commits.commit_fact(id, claimant=batch.claimant())
        except Problem:
            # whoever came first processes the inbox, or the reconciler does
            return
        except Exception:
            # what was accepted is in the inbox
            metrics.isolated_failures.labels("advance").inc()
            logger.exception("execution %s could not be advanced", id)
            return
        if committed is not None:
            batch.fair_claim = False
            result, executions = committed
            batch.commands += await self._claims.to_commands(result.leases, executions, batch.request.running)


def _was_issued_here(transition: Transition, outcome: Outcome) -> bool:
    """Whether this transition has issued the command with the same payload that the worker ran it with."""
    issued = transition.issued.get(outcome.command_id)
    return issued is not None and digest_of(issued) == outcome.order


def _bare_fact(outcome: Outcome, at: int) -> Event:
    """An outcome as a fact of which only the type and the command are known."""
    return Event(KINDS.get(outcome.status, e.CALL_ERROR), at, command_id=outcome.command_id)
