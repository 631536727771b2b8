"""The archive: planning and listing batches, and the calls of the worker that writes them."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from ...archive import messages
from ...archive.layout import keys_of
from ...errors import InvalidRequest, NotFound
from ...store.archives import PURGE_AFTER_SECONDS, ClaimedBatch
from ...store.ids import parse_id
from ..models.archives import AfterEvent, AfterExecution, ArchiveEntry, ArchiveNow, DueEntry, ListArchives, Planned
from ..operation import USERS, WORKERS, Call, Operation
from ..page import Page

# batches that may wait for their files at once, and so the most that one call plans
MAX_BATCHES = 8


async def archive_now(call: Call) -> Planned:
    body: ArchiveNow = call.body
    services = call.services
    if not body.dry_run:
        # that there is none is not left to the worker that would write the files
        services.results().objects()
    cutoff = body.before or _cutoff(services.now(), services.archive_after_days)
    if body.dry_run:
        due = [DueEntry.of(entry) for entry in await services.archives.due(cutoff)]
        return Planned(
            before=cutoff, due=due, planned=[], more=False, waiting=(await services.archives.count_planned())[0]
        )
    planned: list[str] = []
    unplanned = body.plan
    waiting, _ = await services.archives.count_planned()
    while unplanned and waiting + len(planned) < MAX_BATCHES:
        archive_id = await services.archives.plan("archive", cutoff)
        if archive_id is None:
            unplanned = False
        else:
            planned.append(str(archive_id))
    waiting += len(planned)
    if waiting:
        await services.request_archive()
    return Planned(before=cutoff, due=[], planned=planned, more=unplanned, waiting=waiting)


async def entries(call: Call) -> Page:
    query: ListArchives = call.query
    archives = call.services.archives
    if query.ids is not None:
        batches = await archives.by_ids([int(id) for id in query.ids.split(",")])
    else:
        # one more, to know whether there is a next page
        batches = await archives.entries(None if query.before is None else int(query.before), query.limit + 1)
    items = [ArchiveEntry.of(archive) for archive in batches[: query.limit]]
    return Page(items, more=len(batches) > len(items), next_parameters=lambda entry: {"before": entry.archive_id})


async def claim(call: Call) -> messages.ClaimedBatch:
    body: messages.ClaimBatch = call.body
    batch = await call.services.archives.claim(body.worker_id, body.lease)
    return messages.ClaimedBatch(batch=None if batch is None else _batch(batch))


async def executions(call: Call) -> messages.ExecutionsPage:
    query: AfterExecution = call.query
    rows = await call.services.archives.executions(_archive_id(call), int(query.after))
    return messages.ExecutionsPage(rows=[(str(id), text) for id, text in rows])


async def events(call: Call) -> messages.EventsPage:
    query: AfterEvent = call.query
    rows = await call.services.archives.events(_archive_id(call), int(query.after), query.seq)
    return messages.EventsPage(rows=[(str(row[0]), *row[1:]) for row in rows])


async def extend(call: Call) -> messages.Extended:
    body: messages.Extend = call.body
    return messages.Extended(held=await call.services.archives.extend(_archive_id(call), body.attempt, body.lease))


async def fail(call: Call) -> messages.Failed:
    body: messages.Fail = call.body
    await call.services.archives.fail(_archive_id(call), body.attempt, body.error)
    return messages.Failed()


async def register(call: Call) -> messages.Registered:
    """Also deletes the events of one batch at once, if no drop of a partition will delete them soon; the reconciler
    does the rest."""
    body: messages.Register = call.body
    archives = call.services.archives
    await _check_keys(call, body)
    files = {name: file.model_dump() for name, file in body.files.items()}
    found = [{**item.model_dump(), "execution_id": int(item.execution_id)} for item in body.executions]
    status = await archives.register(_archive_id(call), body.attempt, files, found)
    if status == "registered":
        await archives.purge(PURGE_AFTER_SECONDS)
    return messages.Registered(status=status)


async def _check_keys(call: Call, body: messages.Register) -> None:
    """Raises InvalidRequest for any files but the batch's own: registered files are read for users, and deleted one
    day."""
    for archive in await call.services.archives.by_ids([_archive_id(call)]):
        month = date.fromisoformat(f"{archive.month}-01")
        expected = keys_of(month, archive.first_id, archive.last_id, archive.executions)
        reported = {name: file.key for name, file in body.files.items()}
        if reported != expected:
            raise InvalidRequest(f"wrong files for this batch; expected {', '.join(expected.values())}")


def _batch(batch: ClaimedBatch) -> messages.Batch:
    ids = {name: str(getattr(batch, name)) for name in ("archive_id", "first_id", "last_id")}
    return messages.Batch(
        **ids, attempt=batch.attempt, month=batch.month, executions=batch.executions, events=batch.events
    )


def _archive_id(call: Call) -> int:
    archive_id = parse_id(call.path("archive_id"))
    if archive_id is None:
        raise NotFound(f"there is no archive {call.path('archive_id')!r}")
    return archive_id


def _cutoff(now: datetime, days: float) -> datetime:
    if days <= 0:
        raise InvalidRequest("archive_after_days is off; give `before`, the time before which the executions ended")
    return now - timedelta(days=days)


OPERATIONS = (
    Operation(
        "archiveNow",
        "POST",
        "/api/archives",
        summary="Archive ended executions: plan batches and invoke a worker to write them",
        tag="archive",
        roles=frozenset({"operator"}),
        handler=archive_now,
        answer=Planned,
        body=ArchiveNow,
    ),
    Operation(
        "listArchives",
        "GET",
        "/api/archives",
        summary="List the batches of the archive, newest first",
        tag="archive",
        roles=USERS,
        handler=entries,
        answer=ArchiveEntry,
        query=ListArchives,
        many=True,
        next_parameter="before",
    ),
    Operation(
        "claimArchive",
        "POST",
        "/api/archives/claim",
        summary="Claim a batch under a lease to write its files",
        tag="archive",
        roles=WORKERS,
        handler=claim,
        answer=messages.ClaimedBatch,
        body=messages.ClaimBatch,
    ),
    Operation(
        "readArchiveExecutions",
        "GET",
        "/api/archives/{archive_id}/executions",
        summary="Read the rows of a batch that is being written, a page at a time",
        tag="archive",
        roles=WORKERS,
        handler=executions,
        answer=messages.ExecutionsPage,
        query=AfterExecution,
    ),
    Operation(
        "readArchiveEvents",
        "GET",
        "/api/archives/{archive_id}/events",
        summary="Read the events of a batch that is being written, a page at a time",
        tag="archive",
        roles=WORKERS,
        handler=events,
        answer=messages.EventsPage,
        query=AfterEvent,
    ),
    Operation(
        "extendArchive",
        "POST",
        "/api/archives/{archive_id}/extend",
        summary="Extend the lease of a batch",
        tag="archive",
        roles=WORKERS,
        handler=extend,
        answer=messages.Extended,
        body=messages.Extend,
        audited=False,
    ),
    Operation(
        "failArchive",
        "POST",
        "/api/archives/{archive_id}/fail",
        summary="Report why a batch could not be written",
        tag="archive",
        roles=WORKERS,
        handler=fail,
        answer=messages.Failed,
        body=messages.Fail,
    ),
    Operation(
        "registerArchive",
        "POST",
        "/api/archives/{archive_id}/register",
        summary="Register the files of a batch and remove its executions from the database",
        tag="archive",
        roles=WORKERS,
        handler=register,
        answer=messages.Registered,
        body=messages.Register,
    ),
)
