"""Turns leases into everything that a worker needs to run their commands."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from ..commands.issued_command import LeaseTerms, command_of, digest_of
from ..engine.state import FIRST_VERSION
from ..errors import InvalidPlaybook
from ..limits import AHEAD_BYTES
from ..ports import EventStore
from ..protocol import Ahead, ClaimedCommand, Frame, Order
from ..records import Lease, LoadedExecution
from ..telemetry import metrics
from .plans import Plans

logger = logging.getLogger(__name__)

# cached payloads of `loop.opened`: one serves hundreds of frames
MAX_OPENED_LOOPS = 64


class Claims:
    def __init__(self, event_store: EventStore, playbooks: Plans) -> None:
        self._event_store = event_store
        self._playbooks = playbooks
        self._opened_loops: OrderedDict[tuple[str, str, int], dict[str, Any]] = OrderedDict()

    async def to_commands(
        self, leases: Sequence[Lease], executions: Mapping[str, LoadedExecution], running: Iterable[Order] = ()
    ) -> list[ClaimedCommand]:
        """The commands of those `leases` whose execution is given; each lease has its `issued` payload. Of a command
        that the worker already runs, with the order in `running`, it gets the lease alone."""
        running_orders = {(key.execution_id, key.command_id): key.order for key in running}
        commands = []
        for lease in leases:
            if lease.execution_id not in executions:
                continue
            try:
                commands.append(await self._command(lease, executions[lease.execution_id], running_orders))
            except InvalidPlaybook as problem:
                # its lease expires, like that of a command that kills its worker
                extra = {"execution_id": lease.execution_id, "command_id": lease.command_id}
                logger.error("a command cannot be dispatched: its playbook cannot be read: %s", problem, extra=extra)
        return commands

    async def playbook_texts(self, commands: Iterable[ClaimedCommand], known: Sequence[str]) -> dict[str, str]:
        """The playbooks of `commands`, without those the worker knows."""
        missing = {command.plan for command in commands} - set(known)
        return {hash: await self._playbooks.text(hash) for hash in missing}

    async def _command(
        self, lease: Lease, execution: LoadedExecution, running_orders: Mapping[tuple[str, str], str]
    ) -> ClaimedCommand:
        plan = await self._playbooks.plan(execution.plan_hash)
        issued = lease.issued
        assert issued is not None
        metrics.commands_claimed.labels(issued["kind"]).inc()
        extra_fields: dict[str, Any] = {}
        if issued["kind"] == "frame":
            extra_fields = await self._frame(lease, issued)
        elif issued["kind"] == "step" and plan.durability == "pipelined":
            extra_fields = _pipelined(lease, issued, execution, running_orders)
        names = (lease.execution_id, lease.command_id, lease.step, lease.generation)
        if lease.lost:
            extra_fields["lost"] = lease.lost
        terms = LeaseTerms(lease.fence, lease.delivery, lease.lease_until)
        return command_of(plan, execution.path, names, issued, execution.state.workload, terms, extra_fields)

    async def _frame(self, lease: Lease, issued: Mapping[str, Any]) -> dict[str, Any]:
        opened = await self._loop_opened(lease)
        index, start, end, concurrency = issued["frame"]
        fields = {
            "scope": {**opened["scope"], **issued["scope"]},
            "frame": Frame(index=index, start=start, end=end, concurrency=concurrency),
            "count": opened["count"],
        }
        if opened.get("ref") is not None:
            return {**fields, "collection": opened["ref"]}
        return {**fields, "items": opened.get("data", [])[start:end]}

    async def _loop_opened(self, lease: Lease) -> dict[str, Any]:
        key = (lease.execution_id, lease.step, lease.generation)
        opened = lease.loop_opened or self._opened_loops.get(key) or await self._event_store.loop_opened(*key)
        self._opened_loops[key] = opened
        while len(self._opened_loops) > MAX_OPENED_LOOPS:
            self._opened_loops.popitem(last=False)
        return opened


def _pipelined(
    lease: Lease, issued: Mapping[str, Any], execution: LoadedExecution, running_orders: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    digest = digest_of(issued)
    if running_orders.get((lease.execution_id, lease.command_id)) == digest:
        return {"order": digest, "scope": {}, "workload": {}}
    state = execution.state
    # not for a redelivered command: if the worker ran ahead of it, a later command that kills the worker would count
    # against this one
    is_only_command = lease.delivery == 1 and list(state.commands) == [lease.command_id]
    # nor for a state that a worker of an earlier release may not be able to read
    if not is_only_command or state.is_suspended or state.version > FIRST_VERSION:
        return {"order": digest}
    snapshot = orjson.dumps(state.snapshot())
    if max(len(orjson.dumps(state.workload)), len(snapshot)) > AHEAD_BYTES:
        return {"order": digest}
    # as the worker reads it, also one in this process, which must not change what is cached here
    ahead = Ahead.model_construct(head=execution.head, state=orjson.loads(snapshot), workload=dict(state.workload))
    return {"order": digest, "ahead": ahead}
