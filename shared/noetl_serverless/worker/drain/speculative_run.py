"""The commands of one execution that a worker runs in sequence: the first under a lease, the others speculatively.

Nothing here waits or reads a clock: `SpeculativeRuns` drives it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ...protocol import ClaimedCommand, Order, Outcome
from ..execution.background_write import BackgroundWrite
from ..execution.executor import failed
from ..execution.lease import Lease
from .keys import Key, key_of
from .retry import Retry
from .speculation import Speculation

# limits on what may be unreported: steps, seconds since the oldest of them ended, bytes of JSON
MAX_UNREPORTED_STEPS = 64
MAX_UNREPORTED_SECONDS = 1.0
MAX_UNREPORTED_BYTES = 1024 * 1024


@dataclass(slots=True, eq=False)
class SpeculativeStep:
    command: ClaimedCommand
    begun: bool = False
    outcome: Outcome | None = None
    # when it ended, in seconds of the loop's clock
    ended: float = 0.0
    bytes: int = 0
    # of its result: it is reported after that
    write: BackgroundWrite | None = None

    @property
    def can_be_reported(self) -> bool:
        return self.outcome is not None and (self.write is None or not self.write.is_under_way)

    def cancel_write(self) -> None:
        if self.write is not None:
            self.write.cancel()


class SpeculativeRun:
    """`steps` from the anchor, whose lease is in the database, to the newest. All but the newest have an outcome."""

    def __init__(self, leased: ClaimedCommand, speculation: Speculation, lease: Lease) -> None:
        self.execution_id = leased.execution_id
        # the anchor's lease: the other steps have none of their own
        self.lease = lease
        self.steps = deque([SpeculativeStep(leased, begun=True)])
        # how many of the steps are in the report under way
        self.sent = 0
        # its report may have been processed and the answer lost
        self.doubtful = False
        # set while a failed report is to be sent again
        self.retry: Retry | None = None
        self._speculation: Speculation | None = speculation
        # how many outcomes a report may hold: fewer, once one was too large
        self._max_outcomes = MAX_UNREPORTED_STEPS

    @property
    def leased(self) -> ClaimedCommand:
        return self.steps[0].command

    @property
    def newest(self) -> SpeculativeStep:
        return self.steps[-1]

    @property
    def has_ended(self) -> bool:
        """Whether all steps have ended."""
        return self.newest.outcome is not None

    @property
    def ready(self) -> bool:
        """Whether there is something to report, and no report under way."""
        return not (self.sent or self.doubtful) and self.steps[0].can_be_reported

    @property
    def is_lease_uncertain(self) -> bool:
        """Whether the anchor's lease may be gone, because a report may have been processed."""
        return bool(self.sent) or self.doubtful or (self.retry is not None and self.retry.doubtful)

    def due(self, batch_size: int, ended_by: float) -> bool:
        """Whether the ready outcomes should not wait for more: there are enough, no step is running, or the oldest
        ended at `ended_by` or before."""
        return (
            self.has_ended or not self.newest.begun or len(self.steps) > batch_size or self.steps[0].ended <= ended_by
        )

    def has(self, key: Key) -> bool:
        return any(key_of(step.command) == key for step in self.steps)

    # -- running

    def end(self, outcome: Outcome, now: float, write: BackgroundWrite | None = None) -> None:
        """Record that the newest step has ended."""
        step = self.newest
        step.outcome, step.ended, step.bytes, step.write = outcome, now, _size(outcome), write

    def fail_write(self, step: SpeculativeStep) -> None:
        """The result of the step could not be stored, which is an error of the step: what ran after it is void."""
        assert step.outcome is not None and step.write is not None and step.write.error is not None
        while self.newest is not step:
            self.steps.pop().cancel_write()
        self.stop()
        outcome = failed(step.command, step.write.error)
        outcome.meta, outcome.at = step.outcome.meta, step.outcome.at
        step.outcome, step.bytes = outcome, _size(outcome)

    def speculate(self) -> ClaimedCommand | None:
        """The command to run speculatively after the newest, which has ended. It is added to `steps`, not begun."""
        if self._speculation is None:
            return None
        step = self.newest
        assert step.outcome is not None
        command = self._speculation.next_command(step.command, step.outcome)
        if command is None:
            self.stop()
            return None
        self.steps.append(SpeculativeStep(command))
        return command

    def may_begin(self, now: float) -> bool:
        """Whether the newest step can begin: it has not yet, and what is unreported is within the limits."""
        if self.newest.begun or self.doubtful:
            return False
        ended = [step for step in self.steps if step.outcome is not None]
        if not ended:
            return True
        within_limits = len(ended) < MAX_UNREPORTED_STEPS and now - ended[0].ended < MAX_UNREPORTED_SECONDS
        return within_limits and sum(step.bytes for step in ended) < MAX_UNREPORTED_BYTES

    def remove_newest(self) -> None:
        """Remove the newest step, which is not run here, or not to its end."""
        self.steps.pop()
        self.stop()

    def stop(self) -> None:
        """Run nothing more speculatively."""
        self._speculation = None

    def cancel_writes(self) -> None:
        """Nothing of it will be reported."""
        for step in self.steps:
            step.cancel_write()

    # -- reporting

    def send(self) -> list[Outcome]:
        """The outcomes to report now, under the anchor's fence."""
        outcomes: list[Outcome] = []
        size = 0
        for step in self.steps:
            size += step.bytes
            if (
                step.outcome is None
                or not step.can_be_reported
                or len(outcomes) >= self._max_outcomes
                or (outcomes and size > MAX_UNREPORTED_BYTES)
            ):
                break
            step.outcome.fence = self.leased.fence
            step.outcome.order = step.command.order if outcomes else None
            outcomes.append(step.outcome)
        self.sent = len(outcomes)
        return outcomes

    def next_anchor(self) -> Order | None:
        """The first step that is not in the report: the anchor once the report is accepted."""
        if self.sent >= len(self.steps):
            return None
        command = self.steps[self.sent].command
        assert command.order is not None
        return Order(execution_id=command.execution_id, command_id=command.command_id, order=command.order)

    def send_half(self) -> bool:
        """The report was too large: halve the next one; False if it cannot be smaller."""
        self._max_outcomes = self.sent // 2
        self.sent = 0
        return self._max_outcomes > 0

    def apply_results(self, statuses: Mapping[Key, str]) -> list[Outcome]:
        """The report was answered: remove and return the accepted outcomes, up to the first that was not accepted."""
        accepted: list[Outcome] = []
        for _ in range(self.sent):
            step = self.steps[0]
            if step.outcome is None or statuses.get(key_of(step.command)) != "accepted":
                break
            accepted.append(step.outcome)
            self.steps.popleft()
        self.sent = 0
        self.retry = None
        return accepted

    def lease_moved_to(self, command: ClaimedCommand) -> list[Outcome] | None:
        """This worker holds the lease of `command`: return the outcomes before it, which are in the log by now. None
        if it is not one of the steps, or was issued with a different order."""
        for index, step in enumerate(self.steps):
            if key_of(step.command) == key_of(command):
                if step.command.order != command.order:
                    return None
                outcomes = [self.steps.popleft().outcome for _ in range(index)]
                step.command.fence = command.fence
                step.command.lease_until = command.lease_until
                self.doubtful = False
                return [outcome for outcome in outcomes if outcome is not None]
        return None


def _size(outcome: Outcome) -> int:
    return len(orjson.dumps([outcome.data, outcome.set, outcome.set_refs, outcome.extra, outcome.error], default=str))
