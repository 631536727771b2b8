"""Going on with an execution that has ended, from one of its steps."""

from __future__ import annotations

from ...engine.events import STARTED
from ...errors import Conflict, InvalidRequest
from ..models.executions import Restart, Restarted
from ..operation import USERS, Call, Operation
from .execute import HEADERS, IDEMPOTENCY_KEY, principal_of
from .identifiers import execution_id_of

# of a log: all of it is read, and followed once
MAX_EVENTS = 200_000


async def restart(call: Call) -> Restarted:
    """Start an execution that goes on with this one; what is done stays done."""
    body: Restart = call.body
    execution_id = execution_id_of(call)
    key = call.header(IDEMPOTENCY_KEY)
    if key is not None and body.dry_run:
        raise InvalidRequest("a dry run starts nothing: leave out either `dry_run` or the Idempotency-Key")
    events, workload = await call.services.replays.log(execution_id, MAX_EVENTS + 1)
    if len(events) > MAX_EVENTS or events[0].type != STARTED:
        raise Conflict(
            f"the log of execution {execution_id} has more than {MAX_EVENTS:,} events, too many to restart from: "
            "start it anew instead"
        )
    restarted = await call.services.orchestrator.restart(
        str(execution_id),
        events,
        workload,
        step=body.step,
        version=body.version,
        payload=body.payload,
        idempotency_key=None if key is None else f"request:{key}",
        principal=principal_of(call),
        dry_run=body.dry_run,
    )
    found = restarted.restart
    return Restarted.model_validate(
        {
            "execution_id": restarted.execution_id,
            "restarted_from": str(execution_id),
            "version": restarted.version,
            "from": found.restart_from,
            "reused": [reused.step for reused in found.reused],
            "skipped": [reused.step for reused in found.reused if reused.is_skipped],
            "failed": [reused.step for reused in found.reused if reused.has_failed],
            "items_reused": {loop.step: loop.done for loop in found.loops},
            "again": found.again,
            "warnings": found.warnings,
            "commands_generated": restarted.commands,
        }
    )


OPERATIONS = (
    Operation(
        "restartExecution",
        "POST",
        "/api/executions/{execution_id}/restart",
        summary="Go on with an execution that has ended, from the step that failed or another one",
        tag="executions",
        roles=USERS,
        handler=restart,
        answer=Restarted,
        body=Restart,
        headers=HEADERS,
    ),
)
