"""Speculation: the worker decides what follows from an outcome, as the control plane will decide it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from ...commands.fact import fact_of
from ...commands.issued_command import LeaseTerms, command_of, digest_of, needed_workload
from ...engine import events as e
from ...engine.decide import advance
from ...engine.events import Event
from ...engine.state import State
from ...errors import InvalidRequest
from ...playbook.plan import Plan, Step
from ...protocol import ClaimedCommand, Outcome

logger = logging.getLogger(__name__)

# decisions that do not end a speculative run: they concern steps that have ended or never run
HARMLESS_DECISIONS = frozenset({e.STEP_EXIT, e.STEP_SKIPPED})


@dataclass(slots=True)
class Speculation:
    """The state of one execution after all that this worker has done, and the head of its log by then.

    `can_run`: whether this worker may run a step at all.
    """

    plan: Plan
    state: State
    head: int
    worker: str
    can_run: Callable[[Step], bool]

    @classmethod
    def of(
        cls, command: ClaimedCommand, plan: Plan, worker: str, can_run: Callable[[Step], bool]
    ) -> Speculation | None:
        if command.ahead is None or plan.durability != "pipelined":
            return None
        ahead = command.ahead
        state = State.restore(ahead.state, ahead.workload)
        return cls(plan=plan, state=state, head=ahead.head, worker=worker, can_run=can_run)

    def next_command(self, command: ClaimedCommand, outcome: Outcome) -> ClaimedCommand | None:
        """The single step that follows, under the lease of `command`; None if anything else follows, or nothing. Then
        the control plane has to continue, and this object is of no further use."""
        if outcome.status not in ("done", "error"):
            return None
        try:
            issued = self._advance(outcome)
            return None if issued is None else self._command(command, issued)
        except InvalidRequest:
            # the control plane will report what is wrong with the outcome
            return None
        except Exception:
            logger.exception("speculation failed")
            return None

    def _advance(self, outcome: Outcome) -> Event | None:
        fact = fact_of(outcome, self.state.commands[outcome.command_id], outcome.at or 0, self.worker)
        self.state, decisions = advance(self.plan, self.state, fact.numbered(self.head + 1))
        self.head += 1 + len(decisions)
        issued = [event for event in decisions if event.type == e.ISSUED]
        others = {event.type for event in decisions if event.type != e.ISSUED} - HARMLESS_DECISIONS
        if len(issued) != 1 or others or issued[0].payload["kind"] != "step" or e.LIMITS in issued[0].payload:
            return None
        state = self.state
        is_only_command = list(state.commands) == [issued[0].command_id] and not (state.is_suspended or state.loops)
        return issued[0] if is_only_command and self.can_run(self.plan.steps[issued[0].step or ""]) else None

    def _command(self, predecessor: ClaimedCommand, issued: Event) -> ClaimedCommand:
        payload = issued.payload
        terms = LeaseTerms(predecessor.fence, 1, predecessor.lease_until)
        names = (predecessor.execution_id, issued.command_id or "", issued.step or "", issued.generation or 0)
        workload = needed_workload(self.plan, names[2], self.state.workload)
        scope, workload = _copy(payload["scope"]), _copy(workload)
        fields = {"plan": predecessor.plan, "scope": scope, "order": digest_of(payload)}
        return command_of(self.plan, predecessor.path, names, payload, workload, terms, fields)


def _copy(value: Any) -> Any:
    """A deep copy. The value is in the domain already, but shares its parts with the state, and a template passes the
    original list to a tool: a tool that modifies its arguments would change the basis of all later decisions."""
    return orjson.loads(orjson.dumps(value))


def as_received(outcome: Outcome) -> Outcome:
    """The outcome as the control plane will receive it. Raises ValueError for one that cannot be sent."""
    return Outcome.model_validate_json(outcome.model_dump_json(exclude_defaults=True))
