"""The fields of Query. Each one calls the control plane once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from .. import __version__
from ..errors import InvalidRequest, Problem
from .context import Context, Info
from .relay_connection import connection, decode_number, encode_cursor, page_size

_ID = re.compile(r"[0-9]{1,19}")
# the key under which an execution keeps the future with its detail
_DETAIL = " detail"
# and with its status
_STATUS = " status"


def health(root: Any, info: Info) -> str:
    return "ok"


def version(root: Any, info: Info) -> str:
    return __version__


async def execution(root: Any, info: Info, id: str) -> dict[str, Any] | None:
    context = _viewer(info)
    path = f"/api/executions/{execution_id(id)}"
    return await _unless_missing(context.control_plane.get(path, {"include_events": "false"}, user=context.user))


async def executions(
    root: Any,
    info: Info,
    first: int | None = 20,
    after: str | None = None,
    status: str | None = None,
    path: str | None = None,
    since: str | None = None,
    until: str | None = None,
    principal: str | None = None,
    principalKind: str | None = None,
    paused: bool | None = False,
) -> dict[str, Any]:
    context = _viewer(info)
    size = page_size(first, 20)
    if paused and status not in (None, "RUNNING"):
        raise InvalidRequest(f"paused executions have the status RUNNING, not {status}: leave out status or paused")
    params = {
        "page_size": size + 1,
        "before": decode_number("execution", after) if after else None,
        "status": "PAUSED" if paused else status,
        "path": path,
        "since": since,
        "until": until,
        "principal": principal,
        "principal_kind": principalKind,
    }
    return await _rows(
        context,
        "/api/executions",
        params,
        size,
        lambda index, node: encode_cursor("execution", str(node["execution_id"])),
        after,
    )


async def events(
    root: Any,
    info: Info,
    executionId: str,
    first: int | None = 50,
    after: str | None = None,
) -> dict[str, Any]:
    context = _viewer(info)
    size = page_size(first, 50)
    params = {"after": decode_number("event", after) if after else 0, "limit": size + 1}
    path = f"/api/executions/{execution_id(executionId)}/events"
    return await _rows(context, path, params, size, lambda index, node: encode_cursor("event", str(node["seq"])), after)


async def events_of(
    execution: dict[str, Any], info: Info, first: int | None = 50, after: str | None = None
) -> dict[str, Any]:
    return await events(None, info, execution["execution_id"], first, after)


async def warnings_of(execution: dict[str, Any], info: Info) -> list[dict[str, Any]]:
    return list((await _detail_of(execution, info))["warnings"])


async def quarantined_of(execution: dict[str, Any], info: Info) -> bool:
    return bool((await _detail_of(execution, info))["quarantined"])


async def restarts_of(execution: dict[str, Any], info: Info) -> list[str]:
    return list((await _detail_of(execution, info))["restarts"])


async def quarantine_of(execution: dict[str, Any], info: Info) -> dict[str, Any] | None:
    if not await quarantined_of(execution, info):
        return None
    context = _viewer(info)
    path = f"/api/quarantine/{execution_id(execution['execution_id'])}"
    return await _unless_missing(context.control_plane.get(path, user=context.user))


async def _detail_of(execution: dict[str, Any], info: Info) -> dict[str, Any]:
    """The fields that a list of executions leaves out, fetched once, however many resolvers need them."""
    if "quarantined" in execution:
        return execution
    pending: asyncio.Future[dict[str, Any]] | None = execution.get(_DETAIL)
    if pending is None:
        context = _viewer(info)
        path = f"/api/executions/{execution_id(execution['execution_id'])}"
        request = context.control_plane.get(path, {"include_events": "false"}, user=context.user)
        pending = execution[_DETAIL] = asyncio.ensure_future(request)
    return await pending


async def under_way_of(execution: dict[str, Any], info: Info) -> list[dict[str, Any]]:
    return list((await _status_of(execution, info))["under_way"])


async def kept_signals_of(execution: dict[str, Any], info: Info) -> list[str]:
    return list((await _status_of(execution, info))["kept_signals"])


async def _status_of(execution: dict[str, Any], info: Info) -> dict[str, Any]:
    """Fetched once, however many resolvers need it."""
    pending: asyncio.Future[dict[str, Any]] | None = execution.get(_STATUS)
    if pending is None:
        context = _viewer(info)
        path = f"/api/executions/{execution_id(execution['execution_id'])}/status"
        request = context.control_plane.get(path, user=context.user)
        pending = execution[_STATUS] = asyncio.ensure_future(request)
    return await pending


async def variables_of(execution: dict[str, Any], info: Info) -> list[dict[str, Any]]:
    context = _viewer(info)
    path = f"/api/vars/{execution_id(execution['execution_id'])}"
    body: dict[str, Any] = await context.control_plane.get(path, user=context.user)
    return [{"name": name, **variable} for name, variable in body["variables"].items()]


async def results_of(
    execution: dict[str, Any],
    info: Info,
    first: int | None = 50,
    after: str | None = None,
    step: str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    context = _viewer(info)
    params = {"limit": page_size(first, 50), "after": after or "", "step": step, "name": name}
    path = f"/api/result/{execution_id(execution['execution_id'])}/list"
    async with context.budget.fetching():
        if context.budget.is_spent:
            return {"nodes": [], "next": after or ""}
        given = {name: value for name, value in params.items() if value is not None}
        page: dict[str, Any] = await context.control_plane.get(path, given, user=context.user)
        # they have the room of one page: what is left of the budget is for other lists
        context.budget.take(page["results"])
    return {"nodes": page["results"], "next": page["next"]}


async def runs_of(
    execution: dict[str, Any],
    info: Info,
    first: int | None = 50,
    after: str | None = None,
    step: str | None = None,
    failed: bool | None = False,
) -> dict[str, Any]:
    context = _viewer(info)
    size = page_size(first, 50)
    params = {
        "after": decode_number("run", after) if after else 0,
        "limit": size + 1,
        "step": step,
        "failed": "true" if failed else None,
    }
    path = f"/api/executions/{execution_id(execution['execution_id'])}/runs"
    return await _rows(context, path, params, size, lambda index, node: encode_cursor("run", str(node["seq"])), after)


async def catalog(
    root: Any,
    info: Info,
    first: int | None = 50,
    after: str | None = None,
    path: str | None = None,
    kind: str | None = None,
) -> dict[str, Any]:
    context = _viewer(info)
    size = page_size(first, 50)
    offset = decode_number("catalog", after) if after else 0
    params = {"resource_type": kind, "path": path, "limit": size + 1, "offset": offset}
    body = {name: value for name, value in params.items() if value is not None}
    answer = await context.control_plane.post("/api/catalog/list", body, user=context.user)
    return connection(
        answer["entries"],
        size,
        lambda index, node: encode_cursor("catalog", str(offset + index + 1)),
        after=after,
        budget=context.budget,
        more=answer.get("next") is not None,
    )


def execution_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise InvalidRequest(f"An execution id must be a decimal number, not {text[:80]!r}")
    return text


async def _rows(
    context: Context,
    path: str,
    params: dict[str, Any],
    size: int,
    cursor: Callable[[int, dict[str, Any]], str],
    after: str | None,
) -> dict[str, Any]:
    """A page of a list of the control plane. If the budget is spent, it is empty and nothing is fetched."""
    rows: list[dict[str, Any]] = []
    more = True
    async with context.budget.fetching():
        if not context.budget.is_spent:
            rows, more = await context.control_plane.page(path, params, user=context.user)
        return connection(rows, size, cursor, after=after, budget=context.budget, more=more)


async def _unless_missing(request: Awaitable[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return await request
    except Problem as error:
        if error.status == 404:
            return None
        raise


def _viewer(info: Info) -> Context:
    context: Context = info.context
    context.session.require("viewer")
    return context
