"""What users do with an execution that runs: cancel or finalize it, pause it, send it signals, set its variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..engine import events as e
from ..engine.decide import reason_to_ignore
from ..engine.events import Event
from ..engine.state import State
from ..engine.variables import VariableType, unexpired
from ..errors import Conflict
from ..ports import EventStore
from .commits import Commits
from .signals import check_signal, validated_signal
from .start import validated_payload
from .variables import check_variables_set, validated_variables


class _Unneeded(Exception):
    """A fact would change nothing."""


class Controls:
    def __init__(self, event_store: EventStore, commits: Commits, clock: Callable[[], int]) -> None:
        self._event_store = event_store
        self._commits = commits
        self._clock = clock

    async def cancel(
        self, execution_id: str, reason: str, cascade: bool = True, *, code: str = "execution.cancelled"
    ) -> tuple[str, list[str]]:
        """("cancelled" | "already_completed", all executions that were cancelled); `code`: of its error. Raises
        NotFound."""
        children = await self._event_store.running_descendants(execution_id) if cascade else []
        reason = validated_payload(reason)
        error = {"kind": "engine", "code": code, "message": reason or "cancelled"}
        fact = Event(e.CANCELLED, self._clock(), payload={"reason": reason, "cascade": cascade, "error": error})
        if not await self._commits.commit_cancellation(execution_id, fact):
            return "already_completed", []
        if cascade:
            # those that its end did not reach: a state that cannot be read does not list them, nor those that a child
            # which has ended left behind, and that may still undo what they did
            for child in await self._event_store.running_descendants(execution_id):
                await self.cancel(child, f"the parent execution {execution_id} has ended")
        return "cancelled", [execution_id, *children]

    async def signal(
        self,
        execution_id: str,
        name: str,
        data: Any = None,
        *,
        id: str | None = None,
        by: Mapping[str, Any] | None = None,
        check: Callable[[State], None] = lambda state: None,
    ) -> bool:
        """Send a signal to an execution, for one of its waits, now or later. False if one with this `id` came before.
        `check` raises if the state must not be given one with another id. Raises NotFound, InvalidRequest, and Conflict
        if it has ended or keeps too many signals."""
        optional = {"data": None if data is None else validated_signal(data), "id": id, "by": dict(by) if by else None}
        payload = {"signal": name, **{key: value for key, value in optional.items() if value is not None}}
        fact = Event(e.SIGNAL_RECEIVED, self._clock(), payload=payload)

        def checked(state: State) -> None:
            check(state)
            check_signal(fact, state)

        return await self._change(execution_id, fact, checked)

    async def set_variables(
        self,
        execution_id: str,
        variables: Mapping[str, Any],
        *,
        type: VariableType = "user_defined",
        source_step: str | None = None,
        ttl: float | None = None,
        id: str | None = None,
        by: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set variables of an execution, which expire `ttl` seconds from now, if they do. False if a request with this
        `id` came before. Raises NotFound, InvalidRequest, and Conflict if it has ended or would have too many."""
        at = self._clock()
        optional: dict[str, Any] = {
            "source_step": source_step,
            "expires_at": None if ttl is None else at + round(ttl * 1000),
            "id": id,
            "by": dict(by) if by else None,
        }
        payload: dict[str, Any] = {"variables": validated_variables(variables), "type": type}
        payload |= {key: value for key, value in optional.items() if value is not None}
        fact = Event(e.VARIABLES_SET, at, payload=payload)
        return await self._change(execution_id, fact, partial(check_variables_set, fact))

    async def delete_variables(
        self, execution_id: str, names: Sequence[str] | None = None, *, by: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Delete variables of an execution, by default all that it has now; the names of those that it had. Raises
        NotFound, and Conflict if it has ended."""
        if names is None:
            executions = await self._event_store.load([execution_id])
            names = list(executions[execution_id].state.variables) if executions else []
        payload = {"names": list(names), **({"by": dict(by)} if by else {})}
        fact = Event(e.VARIABLES_DELETED, self._clock(), payload=payload)
        deleted: list[str] = []

        def find_deleted(state: State) -> None:
            current = state.variables if state.paused else unexpired(state.variables, fact.at)
            deleted[:] = [name for name in names if name in current]

        await self._change(execution_id, fact, find_deleted)
        return deleted

    async def pause(self, execution_id: str, reason: str = "", by: Mapping[str, Any] | None = None) -> bool:
        """Pause an execution and its sub-playbooks: what a worker has begun ends; nothing else is claimed, and no timer
        fires. False if it is paused already. Raises NotFound, and Conflict if it has ended."""
        return await self._switch(e.PAUSED, execution_id, reason, by)

    async def resume(self, execution_id: str, by: Mapping[str, Any] | None = None) -> bool:
        """Let a paused execution and its sub-playbooks go on. False if it is not paused. Raises as `pause` does."""
        return await self._switch(e.RESUMED, execution_id, "", by)

    async def _switch(self, kind: str, execution_id: str, reason: str, by: Mapping[str, Any] | None) -> bool:
        payload = {"reason": validated_payload(reason), "by": dict(by) if by else None}
        fact = Event(kind, self._clock(), payload={name: value for name, value in payload.items() if value})
        return await self._change(execution_id, fact, lambda state: None)

    async def _change(self, execution_id: str, fact: Event, check: Callable[[State], None]) -> bool:
        """Commit a fact that somebody asks for; False if it would change nothing."""
        was_ended = True

        def checked(state: State) -> None:
            nonlocal was_ended
            was_ended = False
            if (reason := reason_to_ignore(state, fact)) is not None:
                raise _Unneeded(reason)
            check(state)

        try:
            await self._commits.commit_fact(execution_id, fact, check=checked)
        except _Unneeded:
            return False
        if was_ended:
            raise Conflict(f"execution {execution_id} has ended")
        return True

    async def finalize(
        self, execution_id: str, reason: str, by: Mapping[str, Any] | None = None
    ) -> tuple[str, list[str]]:
        """Force an end, whatever its state: ("failed" | "cancelled" | "already_completed", the executions that have
        ended by it). One in quarantine is taken out of it and stays failed; a running one ends as cancelled, with the
        error `execution.finalized`. Their sub-playbooks are cancelled. `by`: who requests it, for the log. Raises
        NotFound."""
        children = await self._event_store.running_descendants(execution_id)
        if await self._commits.commit_drop(execution_id, self._clock(), by):
            return "failed", [execution_id, *children]
        return await self.cancel(execution_id, reason, code="execution.finalized")
