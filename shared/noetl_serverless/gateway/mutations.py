"""The fields of Mutation."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ..errors import InvalidRequest, Problem
from .context import Context, Info
from .proxy import permitted
from .queries import execution_id

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


async def execute_playbook(
    root: Any,
    info: Info,
    name: str,
    variables: Any = None,
    version: int | None = None,
    idempotencyKey: str | None = None,
    resourceKind: str | None = "playbook",
    clientId: str | None = None,
) -> dict[str, Any]:
    context = _editor(info)
    _refuse_client(clientId)
    kind = None if resourceKind == "playbook" else resourceKind
    body = {"path": name, "version": version, "payload": _workload(variables), "resource_kind": kind}
    return await _start(context, "/api/execute", body, name, idempotencyKey)


async def rerun_execution(
    root: Any,
    info: Info,
    executionId: str,
    variables: Any = None,
    idempotencyKey: str | None = None,
    clientId: str | None = None,
) -> dict[str, Any]:
    context = _editor(info)
    _refuse_client(clientId)
    path = f"/api/executions/{execution_id(executionId)}/rerun"
    return await _start(context, path, {"payload": _workload(variables)}, None, idempotencyKey)


async def cancel_execution(
    root: Any,
    info: Info,
    executionId: str,
    reason: str | None = None,
    cascade: bool | None = True,
) -> dict[str, Any]:
    context = _editor(info)
    path = f"/api/executions/{execution_id(executionId)}/cancel"
    body: dict[str, Any] = {"cascade": cascade is not False}
    if reason:
        body["reason"] = reason
    answer = await context.control_plane.post(path, body, user=context.user)
    return {"execution_id": executionId, "cancelled_executions": [], **answer}


async def pause_execution(root: Any, info: Info, executionId: str, reason: str | None = None) -> dict[str, Any]:
    return await _control(_editor(info), executionId, "pause", {"reason": reason} if reason else {})


async def resume_execution(root: Any, info: Info, executionId: str) -> dict[str, Any]:
    return await _control(_editor(info), executionId, "resume", {})


async def signal_execution(
    root: Any,
    info: Info,
    executionId: str,
    signal: str,
    data: Any = None,
    decision: bool | None = False,
    idempotencyKey: str | None = None,
) -> dict[str, Any]:
    # the control plane says what is wrong with any other name; these would name another path
    if signal in ("", ".", ".."):
        raise InvalidRequest("'signal' must be the name of a signal")
    action = f"signals/{quote(signal, safe='')}"
    body = {"data": data, **({"decision": True} if decision else {})}
    return await _control(_editor(info), executionId, action, body, idempotencyKey)


async def restart_execution(
    root: Any,
    info: Info,
    executionId: str,
    version: int | None = None,
    latest: bool | None = False,
    variables: Any = None,
    idempotencyKey: str | None = None,
    dryRun: bool | None = False,
    # `from`, which is no name in Python
    **others: Any,
) -> dict[str, Any]:
    context = _editor(info)
    if latest and version is not None:
        raise InvalidRequest("give either 'version' or 'latest: true', not both")
    named = {"from": others.get("from"), "version": "latest" if latest else version}
    body: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    body |= {"payload": _workload(variables), "dry_run": bool(dryRun)}
    return await _control(context, executionId, "restart", body, idempotencyKey)


async def proxy_request(root: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    context: Context = info.context
    method = input["method"].upper()
    if method not in _METHODS:
        raise InvalidRequest(f"The method must be one of {', '.join(sorted(_METHODS))}")
    endpoint = urlsplit(input["endpoint"])
    if endpoint.scheme or endpoint.netloc:
        raise InvalidRequest("The endpoint must be a path of the control plane, not a URL")
    relative_path = unquote(endpoint.path).removeprefix("/").removeprefix("api/")
    target = await permitted(context.session, context.control_plane, method, relative_path)
    try:
        data = await context.control_plane.call(
            method,
            target,
            params=dict(parse_qsl(endpoint.query, keep_blank_values=True)),
            body=input.get("body"),
            user=context.user,
        )
    except Problem as error:
        return {"success": False, "data": None, "error": error.detail}
    return {"success": True, "data": data, "error": None}


async def _control(
    context: Context, id: str, action: str, body: dict[str, Any], idempotency_key: str | None = None
) -> dict[str, Any]:
    path = f"/api/executions/{execution_id(id)}/{action}"
    headers = _keyed(idempotency_key)
    answer: dict[str, Any] = await context.control_plane.post(path, body, headers=headers, user=context.user)
    return answer


async def _start(
    context: Context, path: str, body: dict[str, Any], name: str | None, idempotency_key: str | None
) -> dict[str, Any]:
    headers = _keyed(idempotency_key)
    request = {key: value for key, value in body.items() if value is not None}
    answer = await context.control_plane.post(path, request, headers=headers, user=context.user)
    started = str(answer["execution_id"])
    return {
        "id": started,
        "execution_id": started,
        "name": name,
        "status": answer["status"],
        "text_output": f"Started execution {started}",
    }


def _workload(variables: Any) -> dict[str, Any]:
    if variables is None:
        return {}
    if not isinstance(variables, dict):
        raise InvalidRequest("'variables' must be a JSON object")
    return variables


def _refuse_client(client_id: str | None) -> None:
    if client_id is not None:
        raise InvalidRequest("clientId (results pushed to a waiting client) is not supported yet")


def _keyed(idempotency_key: str | None) -> dict[str, str]:
    if not idempotency_key:
        return {}
    if len(idempotency_key) > 255 or not idempotency_key.isascii() or not idempotency_key.isprintable():
        raise InvalidRequest("'idempotencyKey' must have at most 255 printable ASCII characters")
    return {"idempotency-key": idempotency_key}


def _editor(info: Info) -> Context:
    context: Context = info.context
    context.session.require("editor")
    return context
