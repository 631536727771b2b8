"""How an execution goes on with another one that has ended, from one of its steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.limits import check_ctx
from ..engine.variables import unexpired
from ..errors import Conflict, InvalidRequest, ResultStoreUnavailable
from ..inspection.restart import Restart
from ..playbook.plan import Plan
from ..playbook.values import InvalidValue, merged
from ..ports import CatalogEntry
from ..results.stores import ResultStores
from .payloads import READ_TIMEOUT_SECONDS
from .start import checked_ctx, new_root, validated_payload
from .transition import Transition

logger = logging.getLogger(__name__)

# concurrent calls of the result store
MAX_STORE_CALLS = 16


@dataclass(frozen=True, slots=True)
class Restarted:
    """`execution_id`: the new execution; None if it was not to be started."""

    execution_id: str | None
    version: int
    restart: Restart
    commands: int = 0
    # whether an earlier request with the same idempotency key started it
    replayed: bool = False


def restart_transition(
    restart: Restart,
    entry: CatalogEntry,
    plan: Plan,
    workload: Mapping[str, Any],
    payload: Mapping[str, Any],
    at: int,
    keys: Mapping[str, Any],
    principal: Mapping[str, Any] | None = None,
) -> tuple[Transition, dict[str, Any]]:
    """The transition that starts it, and its row. `workload` is that of the execution before, over which `payload` is
    merged; what stands in it below `ctx` is merged over ctx. Raises InvalidRequest for a payload that is too large or
    cannot be stored, or whose `ctx` is no object or too large."""
    changes = dict(validated_payload(payload))
    set_now = checked_ctx(changes.pop("ctx", {}))
    # as the first of the executions, so that it can be run again from the beginning
    ctx = {"ctx": restart.initial_ctx} if restart.initial_ctx else {}
    new = new_root(entry, plan, {**merged(workload, changes), **ctx}, at, None, principal)
    begun = dict(new.fact.payload)
    timeout = begun.pop("timeout", None)
    link = {
        "execution_id": restart.execution_id,
        "path": restart.path,
        "version": restart.version,
        "seq": restart.seq,
        "from": restart.restart_from,
    }
    transition = Transition(new.execution, plan)
    transition.apply(replace(new.fact, payload={**begun, e.RESTART: link}))
    transition.append(
        Event(
            e.REUSED,
            at,
            step=reused.step,
            generation=reused.generation,
            payload={
                "outcome": reused.outcome,
                "of": {"execution_id": reused.execution_id, "seq": reused.seq},
            },
        )
        for reused in restart.reused
    )
    for loop in restart.loops:
        of = {"execution_id": restart.execution_id, "seq": loop.seq}
        before = {name: known for name, known in loop.before.items() if name not in set_now}
        opened = {**loop.collection, "done": loop.done, "of": of, **({"before": before} if before else {})}
        transition.append(
            Event(kind, at, step=loop.step, generation=loop.generation, payload=payload)
            for kind, payload in ((e.LOOP_REUSED, opened), *((e.FRAME_REUSED, frame) for frame in loop.frames))
        )
    refs = {name: ref for name, ref in restart.ctx_refs.items() if name not in set_now}
    variables = {name: asdict(variable) for name, variable in unexpired(restart.variables, at).items()}
    goes_on = {
        "begins": restart.begins,
        "waiting": restart.waiting,
        "ctx": _checked({**restart.ctx, **set_now}, refs),
        **({e.CTX_REFS: refs} if refs else {}),
        **({"variables": variables} if variables else {}),
        **({"signals": [asdict(signal) for signal in restart.signals]} if restart.signals else {}),
        **({"answered": restart.answered} if restart.answered else {}),
        **({"last": restart.last} if restart.last is not None else {}),
        **({"compensable": restart.compensable} if restart.compensable else {}),
        **({e.UNDOES: restart.undoes} if restart.undoes else {}),
        **({"timeout": timeout} if timeout is not None else {}),
    }
    transition.apply(Event(e.RESTARTED, at, payload=goes_on))
    return transition, {**new.row, **keys, "restart_of": restart.execution_id}


async def check_results(restart: Restart, stores: ResultStores, now: datetime) -> None:
    """Raises Conflict if a result that is taken over has expired, ResultStoreUnavailable while that cannot be seen. The
    results of one scope of one execution are deleted together, so one of each is looked for in each store; those of
    scope step, which may go one by one, are all looked for."""
    of_each: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    for name, ref in restart.references:
        expires_at = ref.get("expires_at")
        if expires_at is not None and datetime.fromisoformat(expires_at) <= now:
            raise _expired(restart, name)
        scope = ref.get("scope", "execution")
        together = ref["key"] if scope == "step" else scope
        of_each.setdefault((ref["store"], ref["key"].partition("/")[0], together), (name, ref["store"], ref["key"]))
    limit = asyncio.Semaphore(MAX_STORE_CALLS)

    async def check(name: str, store: str, key: str) -> None:
        try:
            named = stores.named(store)
        except KeyError:
            raise Conflict(
                f"a result of execution {restart.execution_id} is in the result store {store!r}, which this deployment "
                f"does not have: that of {name}"
            ) from None
        try:
            async with limit, asyncio.timeout(READ_TIMEOUT_SECONDS):
                await named.get_range(key, 0, 1)
        except KeyError:
            raise _expired(restart, name) from None
        except Exception as error:
            logger.warning("a result could not be read: %s", error)
            raise ResultStoreUnavailable("the result store does not answer; try again") from error

    await asyncio.gather(*(check(*found) for found in of_each.values()))


def _expired(restart: Restart, name: str) -> Conflict:
    return Conflict(
        f"a result of execution {restart.execution_id} is no longer stored: that of {name}. Restart from the step that "
        "made it, or from one before it"
    )


def _checked(ctx: dict[str, Any], refs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        check_ctx({**ctx, **refs})
    except InvalidValue as error:
        raise InvalidRequest(str(error)) from None
    return ctx
