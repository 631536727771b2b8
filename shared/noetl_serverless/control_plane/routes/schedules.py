"""Schedules: playbooks that run by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from ...errors import NotFound
from ...orchestrator.start import initial_values, validated_payload
from ...playbook.grammar import EXECUTABLE
from ...store.catalog import CatalogVersion
from ...store.overlap import text
from ...store.schedule_spec import in_zone, instants, start_of
from ..models.executions import Started
from ..models.schedules import (
    Backfill,
    Backfilled,
    BackfillRun,
    CreateSchedule,
    DeletedSchedule,
    Due,
    DueTimes,
    ListDue,
    ListRuns,
    ListSchedules,
    ScheduleDetail,
    ScheduleEntries,
    ScheduleEntry,
    ScheduleRun,
    TriggerSchedule,
    UpdateSchedule,
)
from ..operation import USERS, Call, Operation
from ..page import Page, from_offset
from .execute import HEADERS, merged, request_key, start


async def create(call: Call) -> ScheduleEntry:
    body: CreateSchedule = call.body
    # raises NotFound now: a schedule of a missing playbook would fail only later, when it is due
    entry = await call.services.catalog.get(body.playbook_path, body.playbook_version)
    if entry.kind not in EXECUTABLE:
        raise NotFound(f"{entry.path} is of kind {entry.kind}, not a playbook")
    await _check_input(call, entry, body.input_payload)
    schedule = await call.services.schedules.create(call.services.now(), **body.model_dump())
    return ScheduleEntry.of(schedule)


async def _check_input(call: Call, entry: CatalogVersion, payload: Mapping[str, Any] | None) -> None:
    """Raises InvalidInput, or InvalidRequest, now for an input with which every run would fail."""
    initial_values(await call.services.orchestrator.plan(entry.hash), validated_payload(payload or {}))


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
    latest = await call.services.schedules.runs(schedule.schedule_id)
    return ScheduleDetail(**ScheduleEntry.of(schedule).model_dump(), runs=[ScheduleRun(**run) for run in latest])


async def update(call: Call) -> ScheduleEntry:
    body: UpdateSchedule = call.body
    changes = body.changes()
    if changes.keys() & {"playbook_path", "playbook_version", "input_payload"}:
        schedule = await call.services.schedules.get(call.path("schedule"))
        entry = await call.services.catalog.get(
            changes.get("playbook_path", schedule.playbook_path),
            changes.get("playbook_version", schedule.playbook_version),
        )
        await _check_input(call, entry, changes.get("input_payload", schedule.input_payload))
    return ScheduleEntry.of(await call.services.schedules.update(call.path("schedule"), changes, call.services.now()))


async def runs(call: Call) -> Page:
    query: ListRuns = call.query
    schedule = await call.services.schedules.get(call.path("schedule"))
    rows = await call.services.schedules.runs(
        schedule.schedule_id,
        # one more, to know whether there is a next page
        query.limit + 1,
        before=query.before,
        status=query.status,
        backfill=query.backfill,
    )
    items = [ScheduleRun(**row) for row in rows[: query.limit]]
    return Page(items, more=len(rows) > len(items), next_parameters=lambda run: {"before": text(run.due_at)})


async def due(call: Call) -> DueTimes:
    """Whether or not it is enabled."""
    query: ListDue = call.query
    schedule = await call.services.schedules.get(call.path("schedule"))
    after = call.services.now() if query.after is None else in_zone(query.after, schedule.timezone)
    found = list(islice(instants(schedule.spec, after), query.count))
    starts = [start_of(schedule.spec, schedule.schedule_id, instant) for instant in found]
    return DueTimes(items=[Due(due_at=at, start_at=start) for at, start in zip(found, starts, strict=True)])


async def backfill(call: Call) -> Backfilled:
    body: Backfill = call.body
    schedule = await call.services.schedules.get(call.path("schedule"))
    found = await call.services.schedules.backfill(
        str(schedule.schedule_id),
        body.from_,
        body.to,
        call.services.now(),
        max_runs=body.max_runs,
        dry_run=body.dry_run,
    )
    return Backfilled(
        schedule_id=str(schedule.schedule_id),
        name=schedule.name,
        dry_run=body.dry_run,
        new=sum(run.is_new for run in found),
        runs=[BackfillRun(due_at=run.due_at, is_new=run.is_new) for run in found],
    )


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
        # no time is due
        schedule={"name": schedule.name or str(schedule.schedule_id), "backfill": False},
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
        "updateSchedule",
        "POST",
        "/api/schedules/{schedule}",
        summary="Change a schedule; with other times, it is due next after now",
        tag="schedules",
        roles=USERS,
        handler=update,
        answer=ScheduleEntry,
        body=UpdateSchedule,
    ),
    Operation(
        "listScheduleRuns",
        "GET",
        "/api/schedules/{schedule}/runs",
        summary="List the runs of a schedule, newest first, with the status of their executions",
        tag="schedules",
        roles=USERS,
        handler=runs,
        answer=ScheduleRun,
        many=True,
        next_parameter="before",
        query=ListRuns,
    ),
    Operation(
        "listDueTimes",
        "GET",
        "/api/schedules/{schedule}/next",
        summary="List the next times at which a schedule is due",
        tag="schedules",
        roles=USERS,
        handler=due,
        answer=DueTimes,
        query=ListDue,
    ),
    Operation(
        "backfillSchedule",
        "POST",
        "/api/schedules/{schedule}/backfill",
        summary="Start the runs of a schedule for a range of time in the past, except those that were started",
        tag="schedules",
        roles=USERS,
        handler=backfill,
        answer=Backfilled,
        body=Backfill,
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
        summary="Disable a schedule; its runs that have not started are skipped",
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
