"""The rules of `log_rules` for what is in a database, the projections beside the log, and the same questions in SQL.

`audit` is for tests that broke something, and for long runs: no findings means that no step was lost and none decided
twice. What should have been decided the oracle says; that the engine says the same as before is looked at too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from tests.log_rules import Finding, Findings, audit_decisions, audit_log, audit_state, ends
from tests.oracle.execution import Unclear
from tests.oracle.following import Differs, follow
from tests.oracle.playbook import Playbook, read

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.state import OF_CTX, State
from noetl_serverless.playbook.document import plain_data, read_document
from noetl_serverless.playbook.older_forms import rewrite
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.tools.plans import load_plan

# the fields of an event behind its type and its time
OF_EVENT = ("seq", "cause", "step", "generation", "command_id", "payload")
STATUS = {e.COMPLETED: "COMPLETED", e.FAILED: "FAILED", e.CANCELLED: "CANCELLED"}
# each row is a violation: execution id, and what is wrong
QUERIES = {
    "the log has gaps": """
        SELECT execution_id, format('%s events from %s to %s', count(*), min(seq), max(seq)) FROM noetl.event
        GROUP BY execution_id HAVING count(*) <> max(seq) OR min(seq) <> 1""",
    "a command is issued twice": """
        SELECT execution_id, command_id FROM noetl.event WHERE type = 'command.issued'
        GROUP BY execution_id, command_id HAVING count(*) > 1""",
    "a command is closed twice": """
        SELECT execution_id, command_id FROM noetl.event
        WHERE type IN ('call.done', 'call.error', 'call.deferred', 'call.parked', 'frame.committed')
        GROUP BY execution_id, command_id HAVING count(*) > 1""",
    "a loop is done twice": """
        SELECT execution_id, format('%s#%s', step, generation) FROM noetl.event WHERE type = 'loop.done'
        GROUP BY execution_id, step, generation HAVING count(*) > 1""",
    "it does not end once": """
        SELECT x.execution_id, format('%s, and %s ends in the log', x.status, count(e.seq)) FROM noetl.execution x
        LEFT JOIN noetl.event e ON e.execution_id = x.execution_id
            AND e.type IN ('playbook.completed', 'playbook.failed', 'execution.cancelled')
            AND NOT (e.payload->'quarantined' IS NOT NULL AND EXISTS (
                SELECT FROM noetl.event o WHERE o.execution_id = e.execution_id AND o.seq > e.seq
                    AND o.type IN ('execution.retried', 'execution.cancelled')))
        GROUP BY x.execution_id, x.status HAVING count(e.seq) <> (x.status <> 'RUNNING')::int""",
    "the head is not the log's": """
        SELECT x.execution_id, format('head %s, log %s', x.head, max(e.seq)) FROM noetl.execution x
        LEFT JOIN noetl.event e USING (execution_id)
        GROUP BY x.execution_id, x.head HAVING x.head IS DISTINCT FROM max(e.seq)""",
    "a command outlives its execution": """
        SELECT execution_id, format('%s %s', c.command_id, c.status)
        FROM noetl.outstanding c JOIN noetl.execution x USING (execution_id)
        WHERE x.status <> 'RUNNING' AND c.status <> 'dead'""",
    "a direct lease is of nothing that the log has issued": """
        SELECT x.execution_id, format('%s at %s', x.direct_command, x.direct_seq) FROM noetl.execution x
        LEFT JOIN noetl.event e ON e.execution_id = x.execution_id AND e.seq = x.direct_seq
            AND e.type = 'command.issued' AND e.command_id = x.direct_command
        WHERE num_nonnulls(direct_worker, direct_fence, direct_since, direct_lease, direct_command, direct_seq,
            direct_pool, direct_playbook, direct_weight) NOT IN (0, 9)
            OR (x.direct_worker IS NOT NULL AND e.seq IS NULL)""",
    "a direct lease has other commands beside it": """
        SELECT x.execution_id, format('%s and %s', x.direct_command, c.command_id) FROM noetl.execution x
        JOIN noetl.command c USING (execution_id) WHERE x.direct_worker IS NOT NULL AND c.status <> 'dead'""",
    "a frame's row is not its event's": """
        SELECT coalesce(f.execution_id, e.execution_id), coalesce(f.step, e.step) FROM noetl.frame f
        FULL JOIN (SELECT * FROM noetl.event WHERE type IN ('frame.committed', 'frame.reused')) e
            ON e.execution_id = f.execution_id AND e.seq = f.seq AND e.step = f.step AND e.generation = f.generation
            AND (e.payload->>'start')::int = f.start_item AND (e.payload->>'end')::int = f.end_item
        WHERE f.seq IS NULL OR e.seq IS NULL""",
    "a loop's row is not its event's": """
        SELECT coalesce(s.execution_id, e.execution_id), coalesce(s.step, e.step) FROM noetl.stage s
        FULL JOIN (SELECT * FROM noetl.event WHERE type = 'loop.opened') e
            ON e.execution_id = s.execution_id AND e.seq = s.seq AND (e.payload->>'count')::int = s.count
        WHERE s.seq IS NULL OR e.seq IS NULL""",
    "a reference that is not registered": """
        SELECT e.execution_id, e.payload->'ref'->>'key' FROM noetl.event e
        LEFT JOIN noetl.result_ref r ON r.execution_id = e.execution_id AND r.key = e.payload->'ref'->>'key'
        WHERE e.type IN ('call.done', 'frame.committed') AND e.payload->'ref'->>'key' IS NOT NULL
            AND r.key IS NULL""",
}


def audit(database_url: str, ids: Collection[str] | None = None) -> list[Finding]:
    """Of the executions named, or of all in the database; prints what it finds to stderr."""
    with closing(connect(database_url)) as database:
        found = [finding for finding in _ask(database) if ids is None or finding.execution_id in ids]
        playbooks: dict[str, tuple[Playbook, Plan]] = {}
        for (row,) in database.run("SELECT to_json(x) FROM noetl.execution x ORDER BY execution_id"):
            if ids is None or str(row["execution_id"]) in ids:
                found += _audit_execution(database, playbooks, row)
    for finding in found:
        print(finding, file=sys.stderr)
    return found


def _ask(database: Connection) -> list[Finding]:
    return [Finding(str(id), rule, str(detail)) for rule, sql in QUERIES.items() for id, detail in database.run(sql)]


def _in_todays_forms(text: str) -> str:
    """What older forms mean is not the oracle's to say."""
    return json.dumps(plain_data(rewrite(read_document(text)).root))


def _audit_execution(
    database: Connection, playbooks: dict[str, tuple[Playbook, Plan]], row: dict[str, Any]
) -> list[Finding]:
    id, status, hash = str(row["execution_id"]), row["status"], row["plan_hash"]
    if hash not in playbooks:
        sql = "SELECT content FROM noetl.catalog WHERE hash = :hash ORDER BY catalog_id DESC LIMIT 1"
        text = database.run(sql, hash=hash)[0][0]
        playbooks[hash] = read(_in_todays_forms(text)), load_plan(text)
    playbook, plan = playbooks[hash]
    events = stored_events(database, id)
    found = Findings(id)
    found += audit_log(id, events)
    # a snapshot is as of `folded`; whoever loads it folds the rest
    found += audit_state(id, [event for event in events if event.seq <= row["folded"]], row["workload"], row["state"])
    found += audit_language(id, events, playbook, row["workload"], row["state"])
    found += audit_decisions(id, events, plan, row["workload"])
    waiting = _inbox(database, id)
    if waiting:
        found.add("facts wait to be decided", ", ".join(waiting))
    if status != "RUNNING" and row["folded"] != row["head"]:
        found.add("it ended without a last snapshot", f"folded {row['folded']} of {row['head']}")
    said = [STATUS[event.type] for event in ends(events)]
    if said != ([] if status == "RUNNING" else [status]):
        found.add("its status is not the log's", f"{status}, the log says {said}")
    if status == "RUNNING" and not found:
        _commands_out(found, database, events, fold(id, events, row["workload"]))
    return found


def audit_language(
    execution_id: str,
    events: Sequence[Event],
    playbook: Playbook,
    workload: Mapping[str, Any],
    state: Mapping[str, Any],
) -> list[Finding]:
    """Whether what was decided is what the language says; `state`: the snapshot beside the log."""
    found = Findings(execution_id)
    try:
        ours = follow(playbook, workload, events)
    except Unclear:
        return found
    except Differs as differs:
        found.add("it is not decided as the language says", str(differs))
        return found
    except (KeyError, IndexError, TypeError, AssertionError) as error:
        found.add("the log cannot be followed", repr(error))
        return found
    # beside the others in the snapshot; what they refer to is not fetched
    by_reference = {name.removeprefix(OF_CTX) for name in state.get("outcomes", {}) if name.startswith(OF_CTX)}
    ctx = {name: value for name, value in ours.ctx.items() if name not in by_reference}
    if ours.status == "completed" and ctx != state.get("ctx", {}):
        found.add("its ctx is another than the language says", f"{state.get('ctx')}, not {ctx}")
    return found


def _inbox(database: Connection, execution_id: str) -> list[str]:
    sql = "SELECT type, step FROM noetl.inbox WHERE execution_id = :id ORDER BY inbox_id"
    return [f"{kind} {step or ''}".strip() for kind, step in database.run(sql, id=execution_id)]


def _commands_out(found: Findings, database: Connection, events: Sequence[Event], state: State) -> None:
    sql = "SELECT command_id FROM noetl.outstanding WHERE execution_id = :id AND status <> 'dead'"
    rows = {row[0] for row in database.run(sql, id=state.execution_id)}
    # the timer of a wait has its name; not every wait has one
    timers = {event.payload["timer"] for event in events if event.type == e.TIMER_SET}
    if rows != (out := state.commands.keys() | state.timers.keys() | (timers & state.waits.keys())):
        found.add("its commands are not the state's", f"{sorted(rows)}, the state has {sorted(out)}")


def stored_events(database: Connection, execution_id: str) -> list[Event]:
    rows = database.run(
        """SELECT type, (extract(epoch FROM at) * 1000)::bigint, seq, cause, step, generation, command_id, payload
        FROM noetl.event WHERE execution_id = :id ORDER BY seq""",
        id=execution_id,
    )
    return [Event(row[0], row[1], **dict(zip(OF_EVENT, row[2:], strict=True))) for row in rows]


def events_of(entries: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Those that the REST API gives."""
    return [
        Event(
            entry["event_type"],
            round(datetime.fromisoformat(entry["timestamp"]).timestamp() * 1000),
            **{name: entry[name] for name in OF_EVENT},
        )
        for entry in entries
    ]
