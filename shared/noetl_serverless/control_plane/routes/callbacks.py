"""Callback URLs: workers have them made for the commands that they run, and somebody outside answers by them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from ...engine.state import CALLBACK, State, split_token_key
from ...errors import Conflict, Forbidden, InvalidRequest, NotFound, Unsupported
from ...orchestrator.callbacks import CallbackAnswered, CallbackOver, check_open, round_of
from ...playbook.keychain import DEFAULT_CALLBACK_SECONDS
from ...playbook.load import playbook_data
from ...playbook.plan import KeychainEntry, Plan
from ...playbook.template_error import TemplateError
from ...protocol import CallbackRequest, CallbackUrl
from ..callback_tokens import Callback
from ..models.callbacks import AnswerCallback, CallbackAnswer, CallbackDetails, NameCallback
from ..models.runs import parked_timers
from ..operation import USERS, WORKERS, Call, Operation, audit
from .controls import signal_name

# below the URL of the gateway
PATH: Final = "/callbacks/"


@dataclass(frozen=True, slots=True)
class _Target:
    """An execution that a URL is for, and the entry of its playbook's keychain."""

    state: State
    plan: Plan
    plan_hash: str
    entry: KeychainEntry


@dataclass(frozen=True, slots=True)
class _Given:
    data: Any
    at: datetime


async def create(call: Call) -> CallbackUrl:
    """For a command of a running execution, as the other entries of its keychain. Raises NotFound, Forbidden,
    InvalidRequest, and Unsupported in a deployment that does not know its URL."""
    body: CallbackRequest = call.body
    owner = await call.services.keychain.owner(int(body.execution_id))
    if not owner.runs:
        raise Forbidden(f"the execution {body.execution_id} has ended: it needs no callback URL")
    plan = await call.services.orchestrator.plan(owner.plan_hash)
    entry = plan.keychain.get(body.name)
    if entry is None or entry.kind != "callback":
        raise NotFound(f"the playbook has no keychain entry {body.name!r} of kind callback")
    if not call.services.public_url:
        raise Unsupported(
            "callback URLs need the setting NOETL_PUBLIC_URL of the control plane: the URL at which everybody reaches "
            "the gateway"
        )
    target = _Target(await call.services.orchestrator.state(body.execution_id), plan, owner.plan_hash, entry)
    lifetime = timedelta(seconds=entry.ttl or DEFAULT_CALLBACK_SECONDS)
    signal = _signal(target)
    callback = Callback(
        execution_id=body.execution_id,
        signal=signal,
        entry=entry.name,
        round=round_of(target.state, signal),
        seq=target.state.seq,
        expires_at=(call.services.now() + lifetime).replace(microsecond=0),
    )
    token = call.services.callback_tokens.sign(callback)
    names = {"execution_id": body.execution_id, "command_id": body.command_id, "secret": entry.name}
    audit("createCallback", call, **names, callback=callback.id)
    expires_at = callback.expires_at.isoformat().replace("+00:00", "Z")
    return CallbackUrl(url=f"{call.services.public_url}{PATH}{token}", token=token, expires_at=expires_at)


def _is_approval(target: _Target) -> bool:
    # a cold start need not read what few playbooks have; and so below
    from ...playbook.callbacks import is_approval

    return is_approval(target.entry)


def _signal(target: _Target) -> str:
    """The name, which may be a template. Raises InvalidRequest."""
    from ...playbook.callbacks import signal_of

    try:
        name = signal_of(target.entry, target.state.workload, target.state.execution_id)
    except TemplateError as error:
        raise InvalidRequest(f"its name cannot be rendered: {error}") from None
    return signal_name(name)


async def read(call: Call) -> CallbackDetails:
    """Answers nothing: what scans mails and previews links calls this. Raises what `answer` raises, but for a URL that
    has been answered."""
    body: NameCallback = call.body
    callback = call.services.callback_tokens.callback(body.token, call.services.now())
    target = await _target(call, callback)
    execution = await call.services.executions.get(int(callback.execution_id))
    given = await _given(call, callback, target)
    answered = given is not None
    if given is None:
        if target.state.ended:
            raise CallbackOver(f"execution {callback.execution_id} has ended")
        try:
            check_open(target.state, callback.signal, callback.round, approval=_is_approval(target))
        except CallbackAnswered:
            # by somebody else
            answered = True
    description, step_descriptions = await _descriptions(call, target)
    return CallbackDetails(
        execution_id=callback.execution_id,
        path=execution.path,
        version=execution.version,
        description=description,
        step_descriptions=step_descriptions,
        signal=callback.signal,
        approval=_is_approval(target),
        expires_at=callback.expires_at if answered else await _valid_until(call, callback, target.state),
        paused=target.state.paused is not None,
        status="answered" if answered else "open",
        answer=None if given is None else given.data,
        answered_at=None if given is None else given.at,
    )


async def answer(call: Call) -> CallbackAnswer:
    """The answer is a signal, of which the execution knows by its id that it came by this URL. Raises CallbackInvalid,
    CallbackExpired, CallbackOver, CallbackAnswered, and InvalidRequest."""
    body: AnswerCallback = call.body
    callback = call.services.callback_tokens.callback(body.token, call.services.now())
    audit("answerCallback", call, execution_id=callback.execution_id, secret=callback.entry, callback=callback.id)
    target = await _target(call, callback)
    approval = _is_approval(target)
    data = _decision(body.data) if approval else body.data
    given: _Given | None = None
    try:
        is_new = await call.services.orchestrator.controls.signal(
            callback.execution_id,
            callback.signal,
            data,
            id=_signal_id(callback),
            by={"kind": CALLBACK, "name": callback.entry, "id": callback.id},
            check=partial(_check_answer, target, callback, data),
        )
    except (Conflict, CallbackOver) as refusal:
        # what this URL has answered ends the wait, and perhaps the execution
        target = await _target(call, callback)
        given = await _given(call, callback, target)
        if given is None and type(refusal) is Conflict and target.state.ended:
            raise CallbackOver(refusal.detail) from None
        if given is None:
            raise
        is_new = False
    if is_new:
        # it is at the time of its event, as later answers say
        recorded = await _recorded(call, callback, callback.seq)
        given = _Given(data, call.services.now() if recorded is None else recorded.at)
    elif given is None:
        given = await _given(call, callback, await _target(call, callback))
    if given is None or given.data != data:
        raise _answered(callback, given)
    return CallbackAnswer(
        execution_id=callback.execution_id,
        signal=callback.signal,
        approval=approval,
        status="accepted" if is_new else "duplicate",
        answer=given.data,
        answered_at=given.at,
    )


async def _target(call: Call, callback: Callback) -> _Target:
    """Raises CallbackOver."""
    try:
        owner = await call.services.keychain.owner(int(callback.execution_id))
        plan = await call.services.orchestrator.plan(owner.plan_hash)
        state = await call.services.orchestrator.state(callback.execution_id)
    except NotFound:
        raise CallbackOver(f"execution {callback.execution_id} has ended, and is no longer kept here") from None
    return _Target(state, plan, owner.plan_hash, plan.keychain[callback.entry])


async def _valid_until(call: Call, callback: Callback, state: State) -> datetime:
    """The end of the URL or, if that is earlier, of the wait that it answers."""
    wait = next((wait for wait in state.waits.values() if wait.signal == callback.signal), None)
    if wait is None:
        return callback.expires_at
    outstanding = await call.services.executions.outstanding(int(callback.execution_id), parked_timers(state))
    run = split_token_key(wait.key)
    due = next((found.due_at for found in outstanding if (found.step, found.generation) == run), None)
    return callback.expires_at if due is None else min(due, callback.expires_at)


async def _descriptions(call: Call, target: _Target) -> tuple[str | None, list[str]]:
    """Of the playbook, and of the steps that wait: the plan has neither."""
    from ...playbook.callbacks import steps_that_wait

    root = await asyncio.to_thread(playbook_data, await call.services.catalog.text(target.plan_hash))
    described = {step["step"]: step.get("desc") for step in root["workflow"]}
    of_playbook = (root.get("metadata") or {}).get("description")
    return of_playbook if isinstance(of_playbook, str) else None, [
        text for step in steps_that_wait(target.plan, target.entry) if (text := described.get(step))
    ]


def _check_answer(target: _Target, callback: Callback, data: Any, state: State) -> None:
    """What waits may take another kind of answer than the entry asks for. Raises InvalidRequest and Conflict, too."""
    from ...orchestrator.decisions import wanted
    from ...playbook.approvals import fault_of
    from ...playbook.awaited import awaited_of

    check_open(state, callback.signal, callback.round, approval=_is_approval(target))
    expected, name = wanted(state, awaited_of(target.plan), callback.signal), callback.signal
    if expected == "decision" and (fault := fault_of(data)) is not None:
        raise InvalidRequest(f"'{name}' is an approval: {fault}")
    if expected == "value" and _is_approval(target):
        raise Conflict(
            f"'{name}' is a signal, not an approval: what waits for it takes a value, and no decision by this URL. "
            f"The entry '{callback.entry}' of the playbook's keychain is to have `signal`"
        )


async def _given(call: Call, callback: Callback, target: _Target) -> _Given | None:
    """What has been answered by the URL."""
    known = target.state.callback_ids.get(callback.entry) == _signal_id(callback)
    if not known and not target.state.ended and round_of(target.state, callback.signal) == callback.round:
        return None
    given = await _recorded(call, callback, callback.seq)
    if given is None and known:
        # by another URL of the entry, before this one was made
        given = await _recorded(call, callback, 0)
    return given


async def _recorded(call: Call, callback: Callback, after: int) -> _Given | None:
    """The answer in the log after a position."""
    from ..recorded_signals import recorded_signals

    async for event in recorded_signals(call, callback.execution_id, _signal_id(callback), after=after):
        return _Given(event.payload.get("data"), event.at)
    return None


def _answered(callback: Callback, given: _Given | None) -> CallbackAnswered:
    detail = f"'{callback.signal}' has been answered by this URL, which gives one answer"
    if given is None:
        return CallbackAnswered(detail)
    return CallbackAnswered(detail, answer=given.data, answered_at=given.at.isoformat())


def _signal_id(callback: Callback) -> str:
    return f"callback:{callback.id}"


def _decision(data: Any) -> dict[str, Any]:
    """Raises InvalidRequest."""
    from ...playbook.approvals import fault_of

    if (fault := fault_of(data)) is not None:
        raise InvalidRequest(fault)
    comment = data.get("comment")
    return {"approved": data["approved"], **({"comment": comment} if comment else {})}


OPERATIONS = (
    Operation(
        "createCallback",
        "POST",
        "/api/callbacks",
        summary="Make the URL of a keychain entry of kind callback, for a command that needs it",
        tag="keychain",
        roles=WORKERS,
        handler=create,
        answer=CallbackUrl,
        body=CallbackRequest,
        audited=False,
    ),
    Operation(
        "readCallback",
        "POST",
        "/api/callbacks/read",
        summary="Read what a callback URL is about, and whether it has been answered",
        tag="keychain",
        roles=USERS,
        handler=read,
        answer=CallbackDetails,
        body=NameCallback,
        # it is as frequent as who has the URL likes
        audited=False,
    ),
    Operation(
        "answerCallback",
        "POST",
        "/api/callbacks/answer",
        summary="Answer by a callback URL: once, to the next wait for its signal",
        tag="keychain",
        roles=USERS,
        handler=answer,
        answer=CallbackAnswer,
        body=AnswerCallback,
        audited=False,
    ),
)
