"""Executions from their logs alone: rebuilt, compared with what is projected, projected anew while they run."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.engine.events import CALL_DONE, Event
from noetl_serverless.limits import WEIGHT
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator, wall_clock
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.playbook.plan import SHARED
from noetl_serverless.records import DeadLetter, ReportedFact
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.parity import StoredRows
from noetl_serverless.store.replays import Replays

LOOP = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: loop, path: demo/loop}
workflow:
  - step: each
    loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
    tool: {kind: noop}
    next: {arcs: [{step: after}]}
  - {step: after, tool: {kind: noop}}
"""


@pytest.fixture
async def looping(user: Client) -> str:
    """An execution with two frames out, of which nothing has come back."""
    assert (await user.post("/api/catalog/register", {"content": LOOP})).status == 200
    return str((await user.post("/api/execute", {"path": "demo/loop"})).json["execution_id"])


def operator(user: Client) -> Any:
    return user.of("operator")


async def validate(user: Client, id: str) -> list[dict[str, Any]]:
    answer = await user.get("/api/replay/validate", execution_id=id)
    assert answer.status == 200, answer.body
    assert answer.json["valid"] is (answer.json["differences"] == [])
    return answer.json["differences"]  # type: ignore[no-any-return]


async def rebuild(user: Client, id: str) -> dict[str, Any]:
    answer = await operator(user).post("/api/replay/rebuild", {"execution_id": id})
    assert answer.status == 200, answer.body
    return answer.json["executions"][0]  # type: ignore[no-any-return]


async def work(hands: FakeWorker, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """Do these; gives what came with the answers."""
    more: list[dict[str, Any]] = []
    for command in commands:
        outcome: dict[str, Any] = {"data": {"n": 1}}
        if command["kind"] == "frame":
            start, end = command["frame"]["start"], command["frame"]["end"]
            outcome = {
                "data": [0] * (end - start),
                "frame": {"start": start, "end": end, "ok": end - start, "failed": 0},
            }
        more += (await hands.report(command, **outcome))["commands"]
    return more


async def work_all(hands: FakeWorker, *commands: dict[str, Any]) -> None:
    while commands:
        commands = tuple(await work(hands, *commands))


async def test_the_state_is_what_it_was_at_any_event(user: Client, started: str, hands: FakeWorker) -> None:
    await hands.finish()
    whole = (await user.get("/api/replay/state", execution_id=started)).json
    assert whole["surfaces"]["execution"]["status"] == "COMPLETED"
    assert whole["surfaces"]["execution"]["ctx"] == {"seen": {"n": 1}}
    assert [step["status"] for step in whole["surfaces"]["steps"]] == ["ok", "ok"]
    assert whole["complete"]
    before = (await user.get("/api/replay/state", execution_id=started, as_of_event_id=2)).json
    assert before["last_event_id"] == before["event_count"] == 2
    assert before["surfaces"]["execution"]["status"] == "RUNNING"
    assert [row["command_id"] for row in before["surfaces"]["commands"]] == ["first#1"]
    assert before["checksums"]["state"] != whole["checksums"]["state"]
    same = (await user.get("/api/replay/state", execution_id=started, as_of_position=2, projection="command")).json
    assert same["surfaces"].keys() == {"commands"}
    assert same["checksums"]["commands"] == before["checksums"]["commands"]


async def test_the_state_is_what_it_was_at_an_instant(user: Client, started: str, hands: FakeWorker) -> None:
    await hands.finish()
    first = (await user.get(f"/api/executions/{started}/events", limit=1)).json[0]["timestamp"]
    early = (datetime.fromisoformat(first) - timedelta(seconds=1)).isoformat()
    none = (await user.get("/api/replay/state", execution_id=started, as_of_time=early)).json
    assert none["event_count"] == 0
    late = (datetime.fromisoformat(first) + timedelta(hours=1)).isoformat()
    everything = (await user.get("/api/replay/state", execution_id=started, as_of_time=late)).json
    assert everything["surfaces"]["execution"]["status"] == "COMPLETED"


async def test_a_limit_that_cuts_says_so(user: Client, started: str) -> None:
    cut = (await user.get("/api/replay/state", execution_id=started, limit=1)).json
    assert (cut["event_count"], cut["complete"]) == (1, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"as_of_event_id": 1, "as_of_position": 1},
        {"projection": "business_object"},
        {"tenant_id": "other"},
        {"as_of_time": "2026-01-01T00:00:00"},
        {"limit": 100_001},
    ],
)
async def test_what_cannot_be_replayed_is_refused(user: Client, started: str, wrong: dict[str, Any]) -> None:
    assert (await user.get("/api/replay/state", execution_id=started, **wrong)).status == 400


async def test_an_execution_that_is_not_there_is_not_found(user: Client) -> None:
    for path in ("/api/replay/state", "/api/replay/validate"):
        assert (await user.get(path, execution_id="5")).status == 404
    assert (await user.get("/api/executions/5/recording")).status == 404
    assert (await operator(user).post("/api/replay/rebuild", {"execution_id": "5"})).status == 404


async def test_only_an_operator_may_rebuild(user: Client, started: str) -> None:
    assert (await user.post("/api/replay/rebuild", {"execution_id": started})).status == 403


async def test_projections_are_what_the_log_says(user: Client, looping: str, hands: FakeWorker) -> None:
    assert await validate(user, looping) == []
    one, two = await hands.claim()
    assert await validate(user, looping) == []
    more = await work(hands, one)
    assert await validate(user, looping) == []
    await work_all(hands, two, *more)
    assert (await user.get(f"/api/executions/{looping}/status")).json["completed"]
    assert await validate(user, looping) == []


DAMAGE = {
    "command": "DELETE FROM noetl.command",
    "command changed": "UPDATE noetl.command SET attempt = 7",
    "command too many": """INSERT INTO noetl.command (execution_id, command_id, step, generation, kind, attempt, pool,
        status, seq, issued_at) SELECT execution_id, 'x#1', 'x', 1, 'step', 1, 'shared', 'pending', 9, now()
        FROM noetl.execution""",
    "stage": "UPDATE noetl.stage SET count = 99",
    "frame": "DELETE FROM noetl.frame",
    "frame changed": "UPDATE noetl.frame SET ok = 0, failed = 1",
    "execution": "UPDATE noetl.execution SET status = 'FAILED'",
    "execution's state, so that none can be made of it": "UPDATE noetl.execution SET state = '{\"mood\": 1}'",
    "execution's state": "UPDATE noetl.execution SET state = jsonb_set(state::jsonb, '{generations,each}', '5')::json",
    "execution's head": "UPDATE noetl.execution SET head = 99",
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_damage_is_found_and_mended(
    user: Client, looping: str, hands: FakeWorker, database: Database, what: str
) -> None:
    await work(hands, (await hands.claim())[0])
    await database.run(DAMAGE[what])
    found = await validate(user, looping)
    assert found
    assert all(entry["projection"] == what.split("'")[0].split(" ")[0] for entry in found)
    assert (await rebuild(user, looping))["differences"] == found
    assert await validate(user, looping) == []


async def test_a_lost_row_of_an_execution_comes_back_and_it_goes_on(
    user: Client, looping: str, hands: FakeWorker, database: Database
) -> None:
    await database.run("DELETE FROM noetl.execution")
    assert [entry["projection"] for entry in await validate(user, looping)] == ["execution"]
    await rebuild(user, looping)
    await work_all(hands, *(await hands.claim()))
    assert (await user.get(f"/api/executions/{looping}/status")).json["completed"]
    assert await validate(user, looping) == []


async def test_a_log_comes_with_the_workload_of_the_row(user: Client, started: str, database: Database) -> None:
    replays = Replays(database)
    events, workload = await replays.log(int(started))
    assert (len(events), workload) == (2, {"a": {"b": 1, "c": 2}})
    await database.run("DELETE FROM noetl.execution")
    assert (await replays.log(int(started)))[1] == {}


async def test_what_is_rebuilt_runs_in_the_name_of_who_started_it(
    user: Client, looping: str, database: Database
) -> None:
    ((before,),) = await database.run("SELECT principal FROM noetl.execution")
    assert before
    await database.run("UPDATE noetl.execution SET principal = NULL")
    await rebuild(user, looping)
    assert await database.run("SELECT principal FROM noetl.execution") == [[before]]


async def test_everything_is_rebuilt_from_nothing_while_it_runs(
    user: Client, looping: str, started: str, hands: FakeWorker, database: Database
) -> None:
    held = await hands.claim()
    for table in ("command", "stage", "frame", "result_ref"):
        await database.run(f"DELETE FROM noetl.{table}")
    seen = []
    after = "0"
    while True:
        answer = (await operator(user).post("/api/replay/rebuild", {"after": after, "limit": 1})).json
        seen += [entry["execution_id"] for entry in answer["executions"]]
        if answer["next"] is None:
            break
        after = answer["next"]
    assert seen == sorted([looping, started], key=int)
    # who held a lease is refused, and the command comes again under a higher fence
    stale = await hands.report(held[0], data=[0], frame={"start": 0, "end": 1, "ok": 1, "failed": 0})
    assert stale["results"][0]["status"] == "stale"
    again = await hands.claim()
    assert {row["command_id"] for row in again} == {row["command_id"] for row in held}
    assert min(row["fence"] for row in again) > max(row["fence"] for row in held)
    await work_all(hands, *again)
    for id in (looping, started):
        assert (await user.get(f"/api/executions/{id}/status")).json["completed"]
        assert await validate(user, id) == []


async def test_what_is_rebuilt_weighs_what_its_playbook_says(
    user: Client, hands: FakeWorker, database: Database
) -> None:
    heavy = LOOP.replace("workflow:", "executor: {spec: {weight: 70}}\nworkflow:", 1)
    assert (await user.post("/api/catalog/register", {"content": heavy})).status == 200
    id = str((await user.post("/api/execute", {"path": "demo/loop"})).json["execution_id"])
    weights = "SELECT weight FROM noetl.command"
    assert await database.run(weights) == [[70], [70]]
    await rebuild(user, id)
    assert await database.run(weights) == [[70], [70]]


async def test_without_its_playbook_a_command_is_rebuilt_for_the_shared_pool(
    user: Client, started: str, hands: FakeWorker, database: Database
) -> None:
    await Replays(database).rebuild(int(started))
    assert await database.run("SELECT pool, weight FROM noetl.command") == [[SHARED, WEIGHT]]
    assert [command["command_id"] for command in await hands.claim()] == ["first#1"], "no worker asks for its pool"


async def test_a_rebuild_counts_the_leases_it_costs(user: Client, looping: str, hands: FakeWorker) -> None:
    assert len(await hands.claim()) == 2
    assert (await rebuild(user, looping))["leases"] == 2
    assert (await rebuild(user, looping))["leases"] == 0


async def test_a_recording_holds_the_playbook_that_ran(user: Client, started: str, playbook: str) -> None:
    await user.post("/api/catalog/register", {"content": playbook.replace("result = 2", "result = 3")})
    found = (await user.get(f"/api/executions/{started}/recording")).json
    assert found["playbook"] == playbook
    assert found["workload"] == {"a": {"b": 1, "c": 2}}
    assert (found["path"], found["version"], found["children"]) == ("demo/two", 1, [])
    assert [(row["command_id"], row["status"], row["deliveries"]) for row in found["commands"]] == [
        ("first#1", "queued", 0)
    ]


async def test_a_recording_says_who_has_what_is_out(user: Client, started: str, hands: FakeWorker) -> None:
    await hands.claim()
    (row,) = (await user.get(f"/api/executions/{started}/recording")).json["commands"]
    assert (row["status"], row["worker"], row["deliveries"]) == ("running", "w-1", 1)
    assert row["lease_until"]


async def test_a_stored_result_is_read_in_parts(
    user: Client, started: str, hands: FakeWorker, app: Starlette, results_url: str, monkeypatch: Any
) -> None:
    store = FsspecResultStore(results_url)
    content = b'"0123456789"'
    stored = await store.put(f"{started}/first/0.json", content)
    meta = {"bytes": stored.bytes, "sha256": hashlib.sha256(content).hexdigest(), "created_at": "2026-01-01T00:00:00Z"}
    uri = f"noetl://execution/{started}/result/first/00000000"
    ref = {"kind": "result_ref", "ref": uri, "store": stored.store, "key": stored.key, "meta": meta, "extracted": {}}
    await hands.report((await hands.claim())[0], ref=ref)
    recorded = (await user.get(f"/api/executions/{started}/recording")).json["results"]
    assert [row["key"] for row in recorded] == [stored.key]
    place = f"/api/results/data/{started}"
    whole: list[str] = []
    monkeypatch.setattr(FsspecResultStore, "get_sync", lambda self, key: whole.append(key) or b'"0123456789"')
    part = (await user.get(place, key=stored.key, offset=1, limit=3)).json
    assert not whole, "for each part all of it was read"
    assert (base64.b64decode(part["data"]), part["bytes"]) == (b"012", 12)
    assert (await user.get(place, key="../secrets")).status == 404
    await store.delete(stored.key)
    assert (await user.get(place, key=stored.key)).status == 404
    assert await validate(user, started) == []
    await rebuild(user, started)
    assert await validate(user, started) == []


async def test_an_outcome_that_waits_in_the_inbox_is_no_difference_and_survives_a_rebuild(
    user: Client, started: str, hands: FakeWorker, database: Database
) -> None:
    (command,) = await hands.claim()
    uri = f"noetl://execution/{started}/result/first/00000000"
    meta = {"bytes": 1, "sha256": "0" * 64, "created_at": "2026-01-01T00:00:00Z"}
    ref = {"kind": "result_ref", "ref": uri, "store": "disk", "key": "k", "meta": meta, "extracted": {"n": 1}}
    row = {"ref": uri, "step": "first", "store": "disk", "key": "k", "bytes": 1, "sha256": "0" * 64}
    row |= {"content_type": "application/json", "scope": "execution", "expires_at": None}
    fact = Event(
        CALL_DONE,
        wall_clock(),
        step="first",
        generation=1,
        command_id=command["command_id"],
        payload={"ref": ref},
    )
    log = PostgresEventStore(database)
    assert await log.append_to_inbox(
        [ReportedFact(execution_id=started, event=fact, fence=command["fence"], worker="w-1", refs=[row])]
    )
    assert await validate(user, started) == []
    assert (await rebuild(user, started))["differences"] == []
    assert await validate(user, started) == []
    assert await hands.claim() == []
    orchestrator = Orchestrator(log, Plans(PostgresCatalog(database)), Notifications(None, None))
    assert await orchestrator.process_inbox(started)
    assert await validate(user, started) == []
    await hands.finish()
    status = (await user.get(f"/api/executions/{started}/status")).json
    assert (status["completed"], status["variables"]) == (True, {"seen": ref}), "its set passes on the whole result"
    assert await validate(user, started) == []


async def test_a_rebuild_keeps_what_is_known_of_a_command_that_was_given_up(
    user: Client, started: str, hands: FakeWorker, database: Database
) -> None:
    (command,) = await hands.claim()
    log = PostgresEventStore(database)
    orchestrator = Orchestrator(log, Plans(PostgresCatalog(database)), Notifications(None, None))
    dead_letter = DeadLetter(
        execution_id=started,
        command_id=command["command_id"],
        fence=command["fence"],
        worker="w-1",
        deliveries=7,
        step=command["step"],
        generation=1,
        kind="step",
        seq=2,
    )
    assert await orchestrator.fail_undeliverable(dead_letter)
    kept = "SELECT command_id, status, deliveries, worker FROM noetl.command"
    before = await database.run(kept)
    assert before == [[command["command_id"], "dead", 7, "w-1"]]
    await rebuild(user, started)
    assert await database.run(kept) == before


async def test_what_is_committed_during_a_validation_is_no_difference(
    started: str, database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Replays._stored

    def meanwhile(self: Replays, connection: Connection, execution_id: int) -> StoredRows:
        with contextlib.closing(connect(postgres_url)) as other:
            other.run("DELETE FROM noetl.command")
        return stored(self, connection, execution_id)

    monkeypatch.setattr(Replays, "_stored", meanwhile)
    assert await Replays(database).validate(int(started)) == []
