"""Every row of the store's tables in one form, from PostgreSQL and from the log in memory.

Keys of objects keep their order. Of what the two draw by themselves, places in the inbox and instants of the clock are
replaced by their rank, and fences by those of the memory that were given with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from noetl_serverless.store.database import Database
from noetl_serverless.testing.event_store import MemoryEventStore

Tables = dict[str, dict[str, bytes]]

MS = "(extract(epoch FROM {0}) * 1000)::bigint"
SQL = f"""
SELECT 'execution', concat_ws('/', execution_id), json_build_object(
    'catalog_id', catalog_id::text, 'path', path, 'version', version, 'plan_hash', plan_hash,
    'parent_id', parent_execution_id::text, 'restart_of', restart_of::text,
    'parent', parent, 'depth', depth, 'status', status, 'head', head,
    'folded', folded, 'finished', finished, 'state', state, 'workload', workload, 'principal', principal,
    'result', result, 'error', error, 'idempotency_key', idempotency_key, 'request_hash', request_hash,
    'created_at', {MS.format("created_at")}, 'ended_at', {MS.format("ended_at")}) FROM noetl.execution
UNION ALL
SELECT 'event', concat_ws('/', execution_id, seq), json_build_object(
    'cause', cause, 'type', type, 'step', step, 'generation', generation, 'command_id', command_id,
    'at', {MS.format("at")}, 'payload', payload) FROM noetl.event
UNION ALL
SELECT 'inbox', concat_ws('/', execution_id, row_number() OVER (PARTITION BY execution_id ORDER BY inbox_id)),
    json_build_object('type', type, 'step', step, 'generation', generation, 'command_id', command_id,
        'at', {MS.format("at")}, 'payload', payload) FROM noetl.inbox
UNION ALL
SELECT 'command', concat_ws('/', execution_id, command_id), json_build_object(
    'step', step, 'generation', generation, 'kind', kind, 'attempt', attempt, 'pool', pool,
    'playbook', playbook, 'weight', weight, 'status', status,
    'seq', seq, 'deliveries', deliveries, 'worker', worker, 'fence', fence,
    'lease', lease_until > now(), 'due_at', {MS.format("due_at")},
    'issued', dense_rank() OVER (ORDER BY issued_at), 'limits', limits, 'admission', admission,
    'lost', (SELECT json_agg(json_build_array(l->'worker', l->'delivery')) FROM json_array_elements(lost) l))
    FROM noetl.outstanding
UNION ALL
SELECT 'stage', concat_ws('/', execution_id, step, generation), json_build_object(
    'seq', seq, 'count', count, 'status', status) FROM noetl.stage
UNION ALL
SELECT 'frame', concat_ws('/', execution_id, step, generation, start_item), json_build_object(
    'end', end_item, 'seq', seq, 'ok', ok, 'failed', failed) FROM noetl.frame
UNION ALL
SELECT 'result_ref', concat_ws('/', execution_id, key), json_build_object(
    'ref', ref, 'step', step, 'store', store, 'bytes', bytes, 'sha256', sha256, 'content_type', content_type,
    'scope', scope) FROM noetl.result_ref
UNION ALL
SELECT 'transient', concat_ws('/', execution_id, var_name), json_build_object(
    'type', var_type, 'value', var_value, 'source_step', source_step, 'created_at', {MS.format("created_at")},
    'expires_at', {MS.format("expires_at")}) FROM noetl.transient
UNION ALL
SELECT 'quarantine', execution_id::text, json_build_object(
    'seq', seq, 'at', {MS.format("at")}, 'error', error, 'facts', facts) FROM noetl.quarantine
"""


async def stored(database: Database, fences: Mapping[int, int]) -> Tables:
    """`fences`: those of PostgreSQL, and what they are in memory."""
    rows = await database.run(SQL)
    for table, _, row in rows:
        if table == "command":
            row["fence"] = fences.get(row["fence"], row["fence"])
    return _tables(rows)


def remembered(log: MemoryEventStore, now: float) -> Tables:
    return _tables([*_executions(log), *_commands(log, now), *_refs(log), *_quarantined(log)])


def difference(stored: Tables, remembered: Tables) -> str:
    """The first row that is not the same, or nothing."""
    for table in stored.keys() | remembered.keys():
        left, right = stored.get(table, {}), remembered.get(table, {})
        for key in sorted(left.keys() | right.keys()):
            if left.get(key) != right.get(key):
                return f"{table} {key}:\n  PostgreSQL {left.get(key)!r}\n  memory     {right.get(key)!r}"
    return ""


def _tables(rows: Iterable[tuple[str, str, Any]]) -> Tables:
    tables: Tables = {}
    for table, key, row in rows:
        tables.setdefault(table, {})[key] = orjson.dumps(row)
    return tables


def _executions(log: MemoryEventStore) -> Iterable[tuple[str, str, Any]]:
    for id, kept in log.executions.items():
        case = kept.loaded
        yield (
            "execution",
            id,
            {
                "catalog_id": case.catalog_id,
                "path": case.path,
                "version": case.version,
                "plan_hash": case.plan_hash,
                "parent_id": kept.parent_id,
                "restart_of": kept.restart_of,
                "parent": case.parent,
                "depth": case.depth,
                "status": kept.status,
                "head": kept.head,
                "folded": kept.folded,
                "finished": kept.finished,
                "state": orjson.loads(kept.state),
                "workload": kept.workload,
                "principal": case.principal,
                "result": kept.result,
                "error": kept.error,
                "idempotency_key": kept.idempotency_key,
                "request_hash": kept.request_hash,
                "created_at": kept.created_at,
                "ended_at": kept.ended_at,
            },
        )
        for event in kept.events:
            yield "event", f"{id}/{event.seq}", {"cause": event.cause, **_fact(event)}
        for place, fact in enumerate(kept.inbox.values(), 1):
            yield "inbox", f"{id}/{place}", _fact(fact)
        for (step, generation), row in kept.stages.items():
            yield "stage", f"{id}/{step}/{generation}", {name: row[name] for name in ("seq", "count", "status")}
        for (step, generation, start), row in kept.frames.items():
            names = ("end", "seq", "ok", "failed")
            yield "frame", f"{id}/{step}/{generation}/{start}", {name: row[name] for name in names}
        for variable, row in kept.variables.items():
            columns = ("type", "value", "source_step", "created_at", "expires_at")
            yield "transient", f"{id}/{variable}", {name: row[name] for name in columns}


def _fact(event: Any) -> dict[str, Any]:
    names = ("type", "step", "generation", "command_id", "at", "payload")
    return {name: getattr(event, name) for name in names}


def _commands(log: MemoryEventStore, now: float) -> Iterable[tuple[str, str, Any]]:
    instants = sorted({kept.issued_at for kept in log.commands.values()})
    for (id, command), kept in log.commands.items():
        names = ("step", "generation", "kind", "attempt", "pool", "playbook", "weight")
        yield (
            "command",
            f"{id}/{command}",
            {
                **{name: kept.row[name] for name in names},
                "status": kept.status,
                "seq": kept.row["seq"],
                "deliveries": kept.deliveries,
                "worker": kept.worker,
                "fence": kept.fence,
                "lease": kept.lease_until > now if kept.lease_until else None,
                "due_at": kept.row["due"],
                "issued": instants.index(kept.issued_at) + 1,
                "limits": kept.limits,
                "admission": kept.admission,
                "lost": [[lost["worker"], lost["delivery"]] for lost in kept.lost] or None,
            },
        )


def _refs(log: MemoryEventStore) -> Iterable[tuple[str, str, Any]]:
    names = ("ref", "step", "store", "bytes", "sha256", "content_type", "scope")
    for (id, key), ref in log.refs.items():
        yield "result_ref", f"{id}/{key}", {name: ref[name] for name in names}


def _quarantined(log: MemoryEventStore) -> Iterable[tuple[str, str, Any]]:
    for id, row in log.quarantine.items():
        yield "quarantine", id, {name: row[name] for name in ("seq", "at", "error", "facts")}
