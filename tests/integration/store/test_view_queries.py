"""SQL of operators on a real server: what it reads, what it is refused, and that no query gets at anything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from pg8000.native import identifier

from noetl_serverless.errors import AnswerTooLarge, InvalidRequest, Unavailable
from noetl_serverless.store import reader_role as role
from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.store.database_role import RoleRefused
from noetl_serverless.store.view_queries import MAX_ROWS, VIEWS, ViewQueries

PASSWORD = "one-of-its-own"
SECRET = "never-to-be-read"
ID = 310764862443520001
# what the role may do with each relation of the database, beside the system's own
RIGHTS = """
SELECT c.relnamespace::regnamespace::text || '.' || c.relname, p.privilege
FROM pg_class c CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p(privilege)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    AND (has_table_privilege(:role, c.oid, p.privilege)
         OR p.privilege IN ('SELECT', 'INSERT', 'UPDATE') AND has_any_column_privilege(:role, c.oid, p.privilege))"""
ROUTINES = """
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
    AND has_function_privilege(:role, p.oid, 'EXECUTE') AND has_schema_privilege(:role, p.pronamespace, 'USAGE')"""
OF_ROLE = """
SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit,
    (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid),
    has_database_privilege(r.oid, current_database(), 'CREATE'),
    has_database_privilege(r.oid, current_database(), 'TEMP'),
    has_schema_privilege(r.oid, 'noetl', 'USAGE'), has_schema_privilege(r.oid, 'noetl_query', 'CREATE'),
    has_schema_privilege(r.oid, 'public', 'CREATE')
FROM pg_roles r WHERE rolname = :role"""
EXECUTION = """
INSERT INTO noetl.execution (
    execution_id, catalog_id, path, version, plan_hash, state, workload, principal, idempotency_key, created_at)
VALUES (:id, 1, 'demo/two', 1, 'h', '{}', '{}', '{"name": "ann"}', :secret, now())"""
EVENT = """
INSERT INTO noetl.event (execution_id, seq, type, at, payload) VALUES (:id, 1, 'playbook.started', now(), '{"n": 1}')"""
CREDENTIAL = """
INSERT INTO noetl.credential (credential_id, name, type, sealed, key_id, meta, tags)
VALUES (1, 'c', 'generic', :sealed, 'k', '{}', '{}')"""


@pytest.fixture
def owner(migrated_url: str) -> Iterator[Connection]:
    """A database with the role, an execution, and secrets where they are kept."""
    role.create_reader_role(migrated_url, PASSWORD)
    name = identifier(role.reader_role(migrated_url))
    with closing(connect(migrated_url)) as connection:
        connection.run(EXECUTION, id=ID, secret=SECRET)
        connection.run(EVENT, id=ID)
        connection.run(CREDENTIAL, sealed=SECRET.encode())
        yield connection
        connection.run(f"DROP OWNED BY {name}")
        connection.run(f"DROP ROLE {name}")


@pytest.fixture
def queries(postgres_url: str, owner: Connection) -> ViewQueries:
    return ViewQueries(role.url_as_reader(postgres_url, PASSWORD))


async def test_the_views_are_read_under_both_names(queries: ViewQueries) -> None:
    for name in ("execution", "noetl.execution", "noetl_query.execution"):
        table = await queries.table(f"SELECT execution_id, path, principal FROM {name};")
        assert table.columns == ["execution_id", "path", "principal"]
        assert table.rows == [[str(ID), "demo/two", {"name": "ann"}]], "an id is text"
    for view in VIEWS:
        assert not (await queries.table(f"SELECT * FROM {view} LIMIT 5")).truncated


async def test_values_are_what_json_has(queries: ViewQueries) -> None:
    [row] = (
        await queries.table(
            "SELECT 1, 9007199254740993, 1.50, 'nan'::float8, 2.5::float8, true, NULL, 'ä', '{\"a\": [1]}'::jsonb, "
            "timestamptz '2026-01-02 03:04:05Z', ARRAY[1, 2], '\\x00ff'::bytea"
        )
    ).rows
    assert row == [
        *(1, "9007199254740993", "1.50", "NaN", 2.5, True, None, "ä", {"a": [1]}),
        *("2026-01-02 03:04:05+00", "{1,2}", "\\x00ff"),
    ]


@pytest.mark.parametrize("text", ["1e999", '"\\ud800"', '"\\u0000"', "[" * 500 + "]" * 500])
async def test_json_that_others_cannot_read_is_text(queries: ViewQueries, text: str) -> None:
    assert (await queries.table(f"SELECT '{text}'::json")).rows == [[text]]


async def test_rows_beyond_the_limit_are_left_out_and_that_is_said(queries: ViewQueries) -> None:
    exact = await queries.table(f"SELECT generate_series(1, {MAX_ROWS})")
    assert (len(exact.rows), exact.truncated) == (MAX_ROWS, False)
    more = await queries.table("SELECT generate_series(1, 1000000000)")
    assert (len(more.rows), more.truncated) == (MAX_ROWS, True)


@pytest.mark.parametrize(
    "query", ["SELECT repeat('x', 100000000)", "SELECT repeat('x', 100000) FROM generate_series(1, 900)"]
)
async def test_an_answer_has_a_size(queries: ViewQueries, query: str) -> None:
    with pytest.raises(AnswerTooLarge, match="select fewer"):
        await queries.table(query)
    assert (await queries.table("SELECT 1")).rows == [[1]], "the next query has a session of its own"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT pg_sleep(60)",
        "SELECT set_config('statement_timeout', '0', false), pg_sleep(60)",
        "SELECT count(*) FROM generate_series(1, 100000000000)",
    ],
)
async def test_a_query_ends_in_time(queries: ViewQueries, owner: Connection, query: str) -> None:
    assert (await queries.table("SELECT current_setting('statement_timeout')")).rows == [["5s"]]
    [[database]] = owner.run("SELECT current_database()")
    owner.run(f"ALTER ROLE {identifier(f'{database}_reader')} SET statement_timeout = '300ms'")
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match="ran longer than 5 seconds"):
        await queries.table(query)
    assert time.monotonic() - started < role.TIMEOUT_SECONDS


@pytest.mark.parametrize(
    "query",
    [
        # what holds secrets, by every name
        "SELECT * FROM noetl.credential",
        'SELECT * FROM "noetl".credential',
        'SELECT "sealed" FROM "noetl"."credential"',
        "SELECT * FROM noetl.keychain LIMIT 5",
        'SELECT idempotency_key FROM "noetl".execution',
        "SELECT idempotency_key FROM execution",
        "SELECT workload FROM execution",
        "SELECT fence FROM command",
        "TABLE pg_catalog.pg_authid",
        "SELECT passwd FROM pg_shadow WHERE passwd IS NOT NULL",
        # becoming somebody else, and then a query within the query
        "SELECT set_config('role', 'noetl', false), query_to_xml('SELECT * FROM \"noetl\".credential', true, true, '')",
        "SELECT set_config('session_authorization', 'noetl', false)",
        "SELECT query_to_xml('SELECT * FROM \"noetl\".credential', true, true, '')",
        "SET ROLE noetl",
        "RESET ROLE",
        # more than a SELECT, and more than one
        "DELETE FROM execution RETURNING *",
        "WITH gone AS (DELETE FROM noetl.event RETURNING *) SELECT * FROM gone",
        "UPDATE execution SET path = 'x'",
        "SELECT * INTO kept FROM execution",
        "SELECT * FROM execution FOR UPDATE",
        "CREATE TABLE kept (x int)",
        "CREATE TEMP TABLE kept (x int)",
        "SELECT 1; SELECT 2",
        "SELECT 1; DELETE FROM noetl.event",
        "SELECT 1; COMMIT; SET ROLE noetl",
        "COPY noetl.credential TO STDOUT",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "DO $$ BEGIN PERFORM 1; END $$",
        "EXPLAIN ANALYZE SELECT 1",
        "",
        "-- nothing",
        # out of the database
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_reload_conf()",
        "SELECT nextval('noetl.fence')",
        "SELECT noetl.grant_reader('x')",
        "SELECT noetl.clear_inbox(1)",
        "SELECT \x00",
    ],
)
async def test_what_no_query_may_do_is_refused_and_changes_nothing(
    queries: ViewQueries, owner: Connection, query: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await queries.table(query)
    assert SECRET not in refused.value.detail
    assert owner.run("SELECT count(*) FROM noetl.event") == [[1]]
    assert owner.run("SELECT to_regclass('kept'), to_regclass('public.kept')") == [[None, None]]


async def test_a_wrong_name_is_answered_with_those_of_the_views(queries: ViewQueries) -> None:
    with pytest.raises(InvalidRequest, match="the views are execution, event, command, catalog, transient"):
        await queries.table("SELECT * FROM noetl.credential")


async def test_other_sessions_cannot_be_ended_or_listened_to(queries: ViewQueries, owner: Connection) -> None:
    [[pid]] = owner.run("SELECT pg_backend_pid()")
    with pytest.raises(InvalidRequest, match="permission denied"):
        await queries.table(f"SELECT pg_terminate_backend({pid})")
    table = await queries.table(f"SELECT query FROM pg_stat_activity WHERE pid = {pid}")
    assert table.rows == [["<insufficient privilege>"]]


async def test_nothing_of_a_session_is_left_for_the_next(queries: ViewQueries) -> None:
    await queries.table("SELECT set_config('search_path', 'pg_catalog', false), pg_advisory_lock(1)")
    assert (await queries.table("SELECT current_setting('search_path')")).rows == [["noetl_query"]]
    assert (await queries.table("SELECT pg_try_advisory_lock(1)")).rows == [[True]]


def test_the_role_reads_the_views_and_may_do_nothing_else(postgres_url: str, owner: Connection) -> None:
    name = role.reader_role(postgres_url)
    assert {tuple(row) for row in owner.run(RIGHTS, role=name)} == {(f"noetl_query.{view}", "SELECT") for view in VIEWS}
    assert owner.run(ROUTINES, role=name) == []
    assert owner.run(OF_ROLE, role=name) == [[False] * 5 + [role.MAX_SESSIONS, 0] + [False] * 5]


def test_no_view_has_a_column_for_what_is_secret(owner: Connection) -> None:
    columns: list[list[Any]] = owner.run(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'noetl_query'"
    )
    assert {table for table, _ in columns} == set(VIEWS)
    secret = (
        "token",
        "secret",
        "sealed",
        "key",
        "fence",
        "session",
        "credential",
        "password",
        "hash",
        "state",
        "workload",
    )
    assert [column for _, column in columns if any(word in column for word in secret)] == []


async def test_it_is_created_anew_with_another_password(postgres_url: str, owner: Connection) -> None:
    role.create_reader_role(postgres_url, "another")
    assert (await ViewQueries(role.url_as_reader(postgres_url, "another")).table("SELECT 1")).rows == [[1]]
    with pytest.raises(Unavailable, match="password authentication failed"):
        await ViewQueries(role.url_as_reader(postgres_url, PASSWORD)).table("SELECT 1")


def test_a_role_of_somebody_else_is_left_alone(postgres_url: str, owner: Connection) -> None:
    name = identifier(role.reader_role(postgres_url))
    owner.run(f"COMMENT ON ROLE {name} IS 'mine'")
    with pytest.raises(RoleRefused, match="not ours"):
        role.create_reader_role(postgres_url, PASSWORD)


async def test_many_at_once_are_answered_in_turn(queries: ViewQueries) -> None:
    tables = await asyncio.gather(*(queries.table(f"SELECT {number}, pg_sleep(0.05)") for number in range(12)))
    assert [table.rows[0][0] for table in tables] == list(range(12))


async def test_variables_are_seen_until_they_have_expired(queries: ViewQueries, owner: Connection) -> None:
    owner.run(
        "INSERT INTO noetl.transient "
        "(execution_id, var_name, var_type, var_value, created_at, accessed_at, expires_at) VALUES "
        "(:id, 'stays', 'computed', '[1]', now(), now(), NULL), "
        "(:id, 'late', 'computed', '2', now(), now(), now() + interval '1 hour'), "
        "(:id, 'gone', 'computed', '3', now(), now(), now() - interval '1 second')",
        id=ID,
    )
    found = await queries.table("SELECT var_name, var_value FROM noetl.transient ORDER BY 1")
    assert found.rows == [["late", 2], ["stays", [1]]]
