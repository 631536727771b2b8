"""The input of a run of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...engine.state import token_key
from ...limits import INLINE_BYTES
from ...playbook.plan import Loop, Plan, Step
from ...playbook.scope import VARIABLES
from ...protocol import ClaimedCommand
from ...tools.fair_queue import NO_SHARE, Share
from ...tools.port import ToolContext
from .attempts import Attempts
from .keychain import KEEPS_CREDENTIALS, Secrets
from .lease import Lease
from .rendering import ReferenceLoader
from .stopwatch import Stopwatch
from .time_budget import TimeBudget
from .toolbox import Toolbox, context_of


# not frozen, which would take three times as long for each item
@dataclass(kw_only=True, slots=True)
class Job:
    """What the tasks run on: a command, or one item of its frame."""

    command: ClaimedCommand
    step: Step
    toolbox: Toolbox
    lazy: ReferenceLoader
    budget: TimeBudget
    ctx: Mapping[str, Any]
    # variables of the execution
    variables: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan
    # of the whole command
    attempts: Attempts
    stopwatch: Stopwatch
    lease: Lease
    secrets: Secrets
    iter: Mapping[str, Any] | None = None
    loop: Mapping[str, Any] | None = None
    # of this run of the loop
    loop_id: str | None = None
    resume: Mapping[str, Any] | None = None
    # of the scarce resources of a worker, such as processes
    share: Share = NO_SHARE

    @classmethod
    def of_command(
        cls,
        command: ClaimedCommand,
        plan: Plan,
        toolbox: Toolbox,
        *,
        lazy: ReferenceLoader,
        budget: TimeBudget,
        attempts: Attempts,
        stopwatch: Stopwatch,
        lease: Lease,
    ) -> Job:
        """The job of a command of a step that `plan` has."""
        step = plan.steps[command.step]
        run = None if step.loop is None else f"{command.execution_id}/{token_key(command.step, command.generation)}"
        return cls(
            command=command,
            step=step,
            loop_id=run,
            toolbox=toolbox,
            lazy=lazy,
            budget=budget,
            ctx=command.scope.get("ctx") or {},
            variables=command.scope.get(VARIABLES) or {},
            plan=plan,
            resume=command.resume,
            attempts=attempts,
            stopwatch=stopwatch,
            lease=lease,
            secrets=Secrets(command, plan.keychain, toolbox),
            share=Share(command.plan, plan.weight),
        )

    @property
    def loops(self) -> frozenset[str]:
        """The steps of the playbook that are loops."""
        return self.plan.loops

    def context_of(self, name: str, kind: str, attempt: int = 1, inline_bytes: int = INLINE_BYTES) -> ToolContext:
        """The context of a call of a tool of this kind; `name` distinguishes it from all others of the execution. The
        tool finds credentials among the entries of the keychain, and the stored ones."""
        return context_of(
            self.toolbox,
            self.command,
            name,
            attempt=attempt,
            waiting=self.stopwatch.paused,
            credential=self.secrets.kept_credential if kind in KEEPS_CREDENTIALS else self.secrets.credential,
            share=self.share,
            inline_bytes=inline_bytes,
        )

    def of_item(
        self,
        loop: Loop,
        item: Any,
        index: int,
        *,
        last: Any,
        length: Any,
        ctx: Mapping[str, Any],
        variables: Mapping[str, Any] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> Job:
        """The job of one item of the frame. `last`: whether it is the last one; `length`: the number of items, None
        while it is not known."""
        first = index == 0
        # written out, because `replace` takes a tenth of the time that an item takes in all
        return Job(
            command=self.command,
            step=self.step,
            toolbox=self.toolbox,
            lazy=self.lazy,
            budget=self.budget,
            ctx=ctx,
            variables=self.variables if variables is None else variables,
            plan=self.plan,
            attempts=self.attempts,
            stopwatch=self.stopwatch,
            lease=self.lease,
            iter={loop.iterator: item, "_index": index, "_first": first, "_last": last},
            loop={"index": index, "first": first, "last": last, "length": length, "done": False},
            loop_id=self.loop_id,
            resume=resume,
            secrets=self.secrets,
            share=self.share,
        )
