"""Executions archived from the command line, and read back by every command, and by DuckDB."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.e2e.stack import PLAYBOOKS, Stack

from noetl_serverless.store.connection import connect

HELLO = PLAYBOOKS / "hello.yaml"


@pytest.fixture
def running(noetls: Stack) -> Iterator[Stack]:
    noetls.ask("up", "--detach")
    yield noetls
    noetls("down")


def reads(stack: Stack, id: str) -> dict[str, Any]:
    entry = {name: value for name, value in stack.ask("show", id).items() if name != "archived"}
    return {
        "show": entry,
        "events": stack.events(id),
        "replay": stack.ask("replay", id),
        "early": stack.ask("replay", id, "--at", "3"),
        "validate": stack.ask("replay", id, "--validate"),
        "digest": stack.ask("digest", id),
    }


def test_archived_executions_read_as_before(running: Stack, data_dir: Path) -> None:
    ids = [running.run(HELLO)["execution_id"] for _ in range(3)]
    before = {id: reads(running, id) for id in ids}
    due = running.ask("archive", "--before", "0s", "--dry-run")["due"]
    assert sum(entry["executions"] for entry in due) == 3
    assert [entry["archived"] for entry in running.ask("executions")] == [False] * 3

    done = running.ask("archive", "--before", "0s")
    assert done["executions"] == 3
    assert done["events"] == sum(len(found["events"]) for found in before.values())

    assert {id: reads(running, id) for id in ids} == before
    assert [entry["archived"] for entry in running.ask("executions")] == [True] * 3
    assert "(archived)" in running("show", ids[0]).out
    glob = f"{data_dir}/results/archive/events/**/*.parquet"
    rows = duckdb.connect().sql(f"SELECT execution_id, count(*) FROM read_parquet('{glob}') GROUP BY 1").fetchall()
    assert {str(id): count for id, count in rows} == {id: len(before[id]["events"]) for id in ids}
    for file in (entry["files"]["events"] for entry in done["archived"]):
        assert (data_dir / "results" / file["key"]).stat().st_size == file["bytes"]

    assert running.ask("archive", "--before", "0s")["executions"] == 0
    assert "nothing to archive" in running("archive", "--before", "1h").out
    assert running.ask("cancel", ids[0], status=1)["status"] == "already_completed"
    running("down")
    running.ask("up", "--detach")
    assert running.events(ids[1]) == before[ids[1]]["events"]
    assert running.run(HELLO)["status"] == "COMPLETED"


def test_an_age_or_a_date_is_asked_for(running: Stack) -> None:
    assert running.ask("archive", status=2)["code"] == "cli.usage"
    assert running("archive", "--before", "soon").status == 2
    running.run(HELLO)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert running.ask("archive", "--before", yesterday)["executions"] == 0
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert running.ask("archive", "--before", tomorrow)["executions"] == 1


def test_the_help_has_the_queries(noetls: Stack) -> None:
    assert "FROM 'DATA/results/archive/events/**/*.parquet'" in noetls("archive", "--help", data=False).out


def test_the_reconciler_archives_by_itself(noetls: Stack, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a second; what is younger stays
    monkeypatch.setenv("NOETL_ARCHIVE_AFTER_DAYS", str(1 / 86400))
    noetls.ask("up", "--detach")
    id = noetls.run(HELLO)["execution_id"]
    before = noetls.events(id)
    run = json.loads((data_dir / "run.json").read_text())
    deadline = time.monotonic() + 60
    while not noetls.ask("show", id)["archived"]:
        assert time.monotonic() < deadline
        with closing(connect(run["database_url"])) as database:
            # it looks every ten minutes
            database.run("UPDATE noetl.chore SET due_at = now() WHERE name = 'archive'")
        time.sleep(1)
    assert noetls.events(id) == before
