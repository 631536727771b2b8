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
from .execute import HEADERS, merged, start


async def create(call: Call) -> ScheduleEntry:
    body: CreateSchedule = call.body
    # a schedule of what is not there would fail far from here
    await call.services.catalog.get(body.playbook_path, body.playbook_version)
    schedule = await call.services.schedules.create(call.services.now(), **body.model_dump())
    return ScheduleEntry.of(schedule)


async def entries(call: Call) -> ScheduleEntries:
    query: ListSchedules = call.query
    found = await call.services.schedules.entries(
        path=query.path,
        enabled=query.enabled,
        # one more, to know whether there is a next page
        limit=query.limit + 1,
        offset=query.offset,
    )
    kept, following = from_offset([ScheduleEntry.of(schedule) for schedule in found], query.limit, query.offset)
    return ScheduleEntries(items=kept, next_offset=following)


async def get(call: Call) -> ScheduleDetail:
    schedule = await call.services.schedules.get(call.path("schedule"))
    runs = await call.services.schedules.runs(schedule.schedule_id)
    return ScheduleDetail(**ScheduleEntry.of(schedule).model_dump(), runs=[Run(**run) for run in runs])


async def enable(call: Call) -> ScheduleEntry:
    return await _switch(call, True)


async def disable(call: Call) -> ScheduleEntry:
    return await _switch(call, False)


async def trigger(call: Call) -> Started:
    """Run now, beside the clock: what is due stays due."""
    body: TriggerSchedule = call.body
    schedule = await call.services.schedules.get(call.path("schedule"))
    started = await start(
        call,
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
        "Run a playbook by a cron line in a time zone, or at an interval",
        "schedules",
        USERS,
        create,
        ScheduleEntry,
        body=CreateSchedule,
        status=201,
    ),
    Operation(
        "listSchedules",
        "GET",
        "/api/schedules",
        "List schedules",
        "schedules",
        USERS,
        entries,
        ScheduleEntries,
        query=ListSchedules,
    ),
    Operation(
        "getSchedule",
        "GET",
        "/api/schedules/{schedule}",
        "Read a schedule by name or id, with its latest runs",
        "schedules",
        USERS,
        get,
        ScheduleDetail,
    ),
    Operation(
        "enableSchedule",
        "POST",
        "/api/schedules/{schedule}/enable",
        "Turn a schedule on; what it missed stays missed",
        "schedules",
        USERS,
        enable,
        ScheduleEntry,
    ),
    Operation(
        "disableSchedule",
        "POST",
        "/api/schedules/{schedule}/disable",
        "Turn a schedule off",
        "schedules",
        USERS,
        disable,
        ScheduleEntry,
    ),
    Operation(
        "triggerSchedule",
        "POST",
        "/api/schedules/{schedule}/trigger",
        "Run a schedule's playbook now, beside the clock",
        "schedules",
        USERS,
        trigger,
        Started,
        body=TriggerSchedule,
        headers=HEADERS,
    ),
    Operation(
        "deleteSchedule",
        "DELETE",
        "/api/schedules/{schedule}",
        "Forget a schedule and the runs it owes",
        "schedules",
        USERS,
        delete,
        DeletedSchedule,
    ),
)
