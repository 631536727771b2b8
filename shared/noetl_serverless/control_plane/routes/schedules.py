"""Schedules: playbooks that run by the clock."""

from __future__ import annotations

from ..models.executions import Started
from ..models.schedules import (
    CreateSchedule,
    DeletedSchedule,
    ListSchedules,
    Run,
    ScheduleDetail,
    ScheduleEntries,
    ScheduleEntry,
    TriggerSchedule,
)
from ..operation import USERS, Call, Operation
from ..page import from_offset
from .execute import HEADERS, merged, request_key, start


async def create(call: Call) -> ScheduleEntry:
    body: CreateSchedule = call.body
    # raises NotFound now: a schedule of a missing playbook would fail only later, when it is due
    await call.services.catalog.get(body.playbook_path, body.playbook_version)
    schedule = await call.services.schedules.create(call.services.now(), **body.model_dump())
    return ScheduleEntry.of(schedule)


async def entries(call: Call) -> ScheduleEntries:
    query: ListSchedules = call.query
    rows = await call.services.schedules.entries(
        path=query.path,
        enabled=query.enabled,
        # one more, to know whether there is a next page
        limit=query.limit + 1,
        offset=query.offset,
    )
    page, next_offset = from_offset([ScheduleEntry.of(schedule) for schedule in rows], query.limit, query.offset)
    return ScheduleEntries(items=page, next=next_offset)


async def get(call: Call) -> ScheduleDetail:
    schedule = await call.services.schedules.get(call.path("schedule"))
    runs = await call.services.schedules.runs(schedule.schedule_id)
    return ScheduleDetail(**ScheduleEntry.of(schedule).model_dump(), runs=[Run(**run) for run in runs])


async def enable(call: Call) -> ScheduleEntry:
    return await _switch(call, True)


async def disable(call: Call) -> ScheduleEntry:
    return await _switch(call, False)


async def trigger(call: Call) -> Started:
    """Run now, in addition to the schedule: due runs stay due."""
    body: TriggerSchedule = call.body
    schedule = await call.services.schedules.get(call.path("schedule"))
    started = await start(
        call,
        request_key(call),
        path=schedule.playbook_path,
        version=schedule.playbook_version,
        payload=merged(schedule.input_payload, body.payload or {}),
    )
    await call.services.schedules.record_latest_run(
        schedule.schedule_id, call.services.now(), "started", int(started.execution_id)
    )
    return started


async def delete(call: Call) -> DeletedSchedule:
    schedule = await call.services.schedules.delete(call.path("schedule"))
    return DeletedSchedule(schedule_id=str(schedule.schedule_id), name=schedule.name)


async def _switch(call: Call, enabled: bool) -> ScheduleEntry:
    schedule = await call.services.schedules.set_enabled(call.path("schedule"), enabled, call.services.now())
    return ScheduleEntry.of(schedule)


OPERATIONS = (
    Operation(
        "createSchedule",
        "POST",
        "/api/schedules",
        summary="Create a schedule: run a playbook by a cron expression in a time zone, or at an interval",
        tag="schedules",
        roles=USERS,
        handler=create,
        answer=ScheduleEntry,
        body=CreateSchedule,
        status=201,
    ),
    Operation(
        "listSchedules",
        "GET",
        "/api/schedules",
        summary="List schedules",
        tag="schedules",
        roles=USERS,
        handler=entries,
        answer=ScheduleEntries,
        next_parameter="offset",
        query=ListSchedules,
    ),
    Operation(
        "getSchedule",
        "GET",
        "/api/schedules/{schedule}",
        summary="Read a schedule by name or id, with its latest runs",
        tag="schedules",
        roles=USERS,
        handler=get,
        answer=ScheduleDetail,
    ),
    Operation(
        "enableSchedule",
        "POST",
        "/api/schedules/{schedule}/enable",
        summary="Enable a schedule; runs missed while it was disabled are not started",
        tag="schedules",
        roles=USERS,
        handler=enable,
        answer=ScheduleEntry,
    ),
    Operation(
        "disableSchedule",
        "POST",
        "/api/schedules/{schedule}/disable",
        summary="Disable a schedule",
        tag="schedules",
        roles=USERS,
        handler=disable,
        answer=ScheduleEntry,
    ),
    Operation(
        "triggerSchedule",
        "POST",
        "/api/schedules/{schedule}/trigger",
        summary="Run a schedule's playbook now, in addition to its schedule",
        tag="schedules",
        roles=USERS,
        handler=trigger,
        answer=Started,
        body=TriggerSchedule,
        headers=HEADERS,
    ),
    Operation(
        "deleteSchedule",
        "DELETE",
        "/api/schedules/{schedule}",
        summary="Delete a schedule and its pending runs",
        tag="schedules",
        roles=USERS,
        handler=delete,
        answer=DeletedSchedule,
    ),
)
