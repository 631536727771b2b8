"""Rows of a loop are claimed together with a record of the claim, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.errors import Unavailable
from noetl_serverless.tables.table import Table
from noetl_serverless.tools.port import Credential, ToolCall, ToolContext, ToolOutcome
from noetl_serverless.tools.postgres import Postgres
from noetl_serverless.tools.postgres_connection import Connection, connect

CLAIM = (
    "UPDATE jobs SET state = 'taken' WHERE id IN (SELECT id FROM jobs WHERE state = 'new' ORDER BY id "
    "LIMIT 2 FOR UPDATE SKIP LOCKED) RETURNING id"
)
Claim = Callable[..., Awaitable[ToolOutcome]]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Connection]:
    connection = connect({"url": postgres_url})
    connection.execute_simple("CREATE TABLE jobs (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new')")
    connection.execute_simple("INSERT INTO jobs SELECT generate_series(1, 3)")
    yield connection
    connection.close()


@pytest.fixture
def context(postgres_url: str, pool: Any, tmp_path: Path) -> ToolContext:
    async def credential(name: str) -> Credential:
        return Credential(name, "postgres", {"url": postgres_url})

    return ToolContext(
        execution_id="7",
        command_id="c",
        step="s",
        attempt=1,
        idempotency_key="k",
        credential=credential,
        python=pool,
        scratch=tmp_path,
    )


@pytest.fixture
async def postgres() -> Any:
    tool = Postgres()
    yield tool
    await tool.close()


def taken(database: Connection) -> list[int]:
    return [row[0] for row in database.run("SELECT id FROM jobs WHERE state = 'taken' ORDER BY id")]


class Records:
    """What is recorded; `then` runs after it, while the transaction is open."""

    def __init__(self, then: Callable[[], Awaitable[None]] | None = None) -> None:
        self.found: list[tuple[Sequence[dict[str, Any]], int]] = []
        self.then = then

    async def __call__(self, rows: Sequence[dict[str, Any]], transaction: int) -> None:
        self.found.append((rows, transaction))
        if self.then is not None:
            await self.then()


def claim_call(command: str = CLAIM) -> ToolCall:
    return ToolCall("postgres", "claim", {"auth": "wh", "command": command})


async def test_rows_are_recorded_before_they_are_claimed(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.append((taken(database), await postgres.claim_status("wh", context, records.found[0][1])))

    records = Records(look)
    outcome = await postgres.claim(claim_call(), context, records, 10)
    assert outcome.data == {"rows": [{"id": 1}, {"id": 2}]}
    assert [rows for rows, _ in records.found] == [[{"id": 1}, {"id": 2}]]
    assert seen == [([], "in progress")], "nothing is claimed while the record is written"
    assert taken(database) == [1, 2]
    assert await postgres.claim_status("wh", context, records.found[0][1]) == "committed"


async def test_a_limit_that_a_nested_loop_would_not_hold_is_held(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    """As in a table whose statistics know nothing of the rows that it has now."""
    database.execute_simple(
        "CREATE TABLE parts (job text, id int, state text DEFAULT 'new', PRIMARY KEY (job, id));"
        "INSERT INTO parts SELECT 'job' || n, 1, 'done' FROM generate_series(1, 3000) AS n; ANALYZE parts;"
        "INSERT INTO parts SELECT 'today', generate_series(1, 15)"
    )
    claim = (
        "UPDATE parts SET state = 'taken' WHERE job = 'today' AND id IN (SELECT id FROM parts WHERE job = 'today' "
        "AND state = 'new' ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED) RETURNING id"
    )
    (first, *_) = database.run(f"EXPLAIN {claim.replace('SKIP LOCKED', '')}")[1:]
    assert "Nested Loop Semi Join" in first[0], "the test shows nothing with this plan"
    call = ToolCall("postgres", "claim", {"auth": "wh", "command": claim, "max_rows": 3})
    claimed = [row["id"] for _ in range(6) for row in (await postgres.claim(call, context, Records(), 10)).data["rows"]]
    assert claimed == list(range(1, 16))


async def test_more_rows_than_a_claim_may_have_are_an_error(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    call = ToolCall("postgres", "claim", {"auth": "wh", "command": CLAIM, "max_rows": 1})
    records = Records()
    outcome = await postgres.claim(call, context, records, 10)
    assert outcome.error is not None and outcome.error["code"] == "postgres.too_many_rows"
    assert (records.found, taken(database)) == ([], [])


async def test_nothing_is_recorded_where_there_is_nothing_to_claim(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    database.execute_simple("DELETE FROM jobs")
    records = Records()
    assert (await postgres.claim(claim_call(), context, records, 10)).data == {"rows": []}
    assert records.found == []


async def test_without_a_record_the_rows_are_free_again(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    async def fails() -> None:
        raise Unavailable("the store is away")

    records = Records(fails)
    with pytest.raises(Unavailable):
        await postgres.claim(claim_call(), context, records, 10)
    assert taken(database) == []
    assert await postgres.claim_status("wh", context, records.found[0][1]) == "aborted"


async def test_rows_of_a_claim_that_was_undone_are_free_at_once(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    """Also before the server could notice that a connection was closed."""

    async def fails() -> None:
        raise Unavailable("the store is away")

    for _ in range(30):
        with pytest.raises(Unavailable):
            await postgres.claim(claim_call(), context, Records(fails), 10)
        locked = database.run("SELECT count(*) FROM (SELECT id FROM jobs FOR UPDATE SKIP LOCKED) AS free")[0][0]
        assert locked == 3, f"{3 - locked} rows are still held"


async def test_a_worker_that_is_stopped_meanwhile_claims_nothing(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.sleep(60)

    claiming = asyncio.create_task(postgres.claim(claim_call(), context, Records(waits), 30))
    await begun.wait()
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    assert taken(database) == []


async def test_the_server_ends_the_claim_of_a_worker_that_stands_still(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    records = Records(lambda: asyncio.sleep(1))
    outcome = await postgres.claim(claim_call(), context, records, 0.3)
    assert outcome.error is not None
    assert outcome.error["retryable"], outcome.error
    assert taken(database) == []
    assert await postgres.claim_status("wh", context, records.found[0][1]) == "aborted"


async def test_a_claim_that_is_no_sql_says_so(postgres: Postgres, context: ToolContext, database: Connection) -> None:
    outcome = await postgres.claim(claim_call("UPDATE nowhere SET x = 1"), context, Records(), 10)
    assert outcome.error is not None
    assert outcome.error["code"] == "postgres.error"


async def test_a_claim_without_rows_to_return_claims_nothing(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    records = Records()
    outcome = await postgres.claim(claim_call("UPDATE jobs SET state = 'taken'"), context, records, 10)
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["retryable"]) == ("postgres.sql", False)
    assert "RETURNING" in outcome.error["message"]
    assert (taken(database), records.found) == ([], [])


async def test_claims_side_by_side_never_share_a_row(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    database.execute_simple("INSERT INTO jobs SELECT generate_series(4, 100)")
    outcomes = await asyncio.gather(*(postgres.claim(claim_call(), context, Records(), 10) for _ in range(20)))
    ids = [row["id"] for outcome in outcomes for row in outcome.data["rows"]]
    assert len(ids) == len(set(ids)) == 40


async def test_many_rows_are_claimed_as_a_table(postgres: Postgres, context: ToolContext, database: Connection) -> None:
    database.execute_simple("INSERT INTO jobs SELECT generate_series(4, 20000)")
    records = Records()
    command = "UPDATE jobs SET state = 'taken' RETURNING id, state"
    outcome = await postgres.claim(claim_call(command), context, records, 30)
    rows = outcome.data["rows"]
    assert isinstance(rows, Table) and records.found[0][0] is rows
    assert sorted(row["id"] for row in rows) == list(range(1, 20001))
    assert len(taken(database)) == 20000


async def test_of_more_rows_than_are_allowed_none_is_claimed(
    postgres: Postgres, context: ToolContext, database: Connection
) -> None:
    database.execute_simple("INSERT INTO jobs SELECT generate_series(4, 20000)")
    call = claim_call("UPDATE jobs SET state = 'taken' RETURNING id, state")
    records = Records()
    outcome = await postgres.claim(replace(call, config={**call.config, "max_rows": 15000}), context, records, 30)
    assert outcome.error is not None and outcome.error["code"] == "postgres.too_many_rows"
    assert (taken(database), records.found) == ([], [])
