"""Leases, made into all that a worker needs to run its commands."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..playbook.plan import Plan
from ..protocol import ClaimedCommand, Frame
from ..store.log import Case, Lease, Log
from .playbooks import Playbooks

# openings of loops kept at hand: one serves hundreds of frames
MOST_OPENINGS = 64


class Dispatch:
    def __init__(self, log: Log, playbooks: Playbooks) -> None:
        self._log = log
        self._playbooks = playbooks
        self._openings: OrderedDict[tuple[str, str, int], dict[str, Any]] = OrderedDict()

    async def commands(self, leases: Sequence[Lease], cases: Mapping[str, Case]) -> list[ClaimedCommand]:
        """Those of the `leases` whose case is given; each lease brings its order."""
        return [
            await self._command(lease, cases[lease.execution_id]) for lease in leases if lease.execution_id in cases
        ]

    async def plans(self, commands: Iterable[ClaimedCommand], known: Sequence[str]) -> dict[str, str]:
        """The playbooks of `commands`, without those the worker knows."""
        wanted = {command.plan for command in commands} - set(known)
        return {hash: await self._playbooks.text(hash) for hash in wanted}

    async def _command(self, lease: Lease, case: Case) -> ClaimedCommand:
        plan = await self._playbooks.plan(case.plan_hash)
        order = lease.order
        assert order is not None
        scope = order["scope"]
        extra: dict[str, Any] = {}
        if order["kind"] == "frame":
            opening = await self._opening(lease)
            scope = {**opening["scope"], **scope}
            index, start, end, concurrency = order["frame"]
            extra["frame"] = Frame(index=index, start=start, end=end, concurrency=concurrency)
            extra["count"] = opening["count"]
            if opening.get("ref") is not None:
                extra["collection"] = opening["ref"]
            else:
                extra["items"] = opening.get("data", [])[start:end]
        return ClaimedCommand.model_construct(
            execution_id=lease.execution_id,
            command_id=lease.command_id,
            step=lease.step,
            generation=lease.generation,
            kind=order["kind"],
            attempt=order["attempt"],
            delivery=lease.delivery,
            fence=lease.fence,
            lease_until=lease.lease_until,
            plan=case.plan_hash,
            path=case.path,
            workload=_needed(plan, lease.step, case.state.workload),
            scope=scope,
            resume=order.get("resume"),
            **extra,
        )

    async def _opening(self, lease: Lease) -> dict[str, Any]:
        key = (lease.execution_id, lease.step, lease.generation)
        opening = lease.opening or self._openings.get(key) or await self._log.opening(*key)
        self._openings[key] = opening
        while len(self._openings) > MOST_OPENINGS:
            self._openings.popitem(last=False)
        return opening


def _needed(plan: Plan, step: str, workload: Mapping[str, Any]) -> dict[str, Any]:
    keys = plan.steps[step].reads.get("workload", frozenset())
    if keys is None:
        return dict(workload)
    return {key: workload[key] for key in keys if key in workload}
