from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from pg8000 import native
from tests.eventually import eventually

from noetl_serverless.playbook.template import BoundSql, SqlTemplate
from noetl_serverless.tools.port import Credential, ToolOutcome
from noetl_serverless.tools.postgres_connection import Connection, connect
from noetl_serverless.tools.sql import numbered, statements

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]


def error_of(outcome: ToolOutcome) -> dict[str, Any]:
    assert outcome.error is not None
    return outcome.error


@pytest.fixture
def sql(run: Run, postgres_url: str, credentials: dict[str, Credential]) -> Run:
    credentials["wh"] = Credential("wh", "postgres", {"url": postgres_url})

    async def sql(command: Any = None, timeout: float | None = None, given: Any = None, **config: Any) -> ToolOutcome:
        if command is not None:
            config["command"] = command
        return await run("postgres", {"auth": "wh", **config}, given, timeout)

    return sql


@pytest.fixture
def database(postgres_url: str) -> Iterator[Connection]:
    """A look from outside."""
    connection = connect({"url": postgres_url})
    yield connection
    connection.close()


def code(outcome: ToolOutcome) -> tuple[str, bool]:
    assert outcome.status == "error"
    assert outcome.error is not None
    return error_of(outcome)["code"], error_of(outcome)["retryable"]


def rows(outcome: ToolOutcome) -> list[dict[str, Any]]:
    assert outcome.error is None, outcome.error
    found: list[dict[str, Any]] = outcome.data["rows"]
    return found


async def test_the_last_statement_gives_the_result(sql: Run) -> None:
    outcome = await sql("create table t (i int, s text); insert into t values (1, 'a'), (2, 'b'); select * from t")
    assert outcome.data == {
        "status": "ok",
        "rows": [{"i": 1, "s": "a"}, {"i": 2, "s": "b"}],
        "row_count": 2,
        "columns": ["i", "s"],
        "statement_count": 3,
    }
    changed = await sql("update t set s = 'c'")
    assert (changed.data["rows"], changed.data["row_count"]) == ([], 2)
    assert rows(await sql(commands=["delete from t where i = 1", "select i from t"])) == [{"i": 2}]


async def test_all_statements_are_one_transaction(sql: Run) -> None:
    await sql("create table t (i int primary key)")
    outcome = await sql("insert into t values (1); insert into t values (2); insert into t values (1)")
    assert code(outcome) == ("postgres.error", False)
    assert outcome.extra["pg"] == {"code": "23505", "sqlstate": "23505"}
    assert rows(await sql("select count(*) as n from t")) == [{"n": 0}]


async def test_values_come_out_as_json(sql: Run) -> None:
    outcome = await sql(
        "select true b, 9223372036854775807 i, 1.50::numeric n, 12345678901234567890.5::numeric big, 0.1::float8 f,"
        " 'nan'::float8 nan, '\\xff00'::bytea raw, date '2024-02-29' d, time '01:02:03.5' t,"
        " timestamp '2024-01-02 03:04:05.25' ts, timestamptz '2024-01-02 03:04:05+02' tz,"
        " interval '1 day 2 hours' iv, '00000000-0000-0000-0000-000000000001'::uuid u, '{\"a\": [1]}'::jsonb j,"
        " array[1, null] ai, array['x', 'y'] ax, array[timestamptz '2024-01-01 00:00:00+00'] atz, array[1.5] an,"
        " int4range(1, 3) r, inet '10.0.0.1' ip, point '(1,2)' p, null::int nothing, 1 as b"
    )
    assert rows(outcome) == [
        {
            "b": True,
            "i": 9223372036854775807,
            "n": 1.5,
            "big": "12345678901234567890.5",
            "f": 0.1,
            "nan": None,
            "raw": "/wA=",
            "d": "2024-02-29",
            "t": "01:02:03.5",
            "ts": "2024-01-02T03:04:05.25",
            "tz": "2024-01-02T01:04:05+00:00",
            "iv": "P1DT2H",
            "u": "00000000-0000-0000-0000-000000000001",
            "j": {"a": [1]},
            "ai": [1, None],
            "ax": ["x", "y"],
            "atz": ["2024-01-01T00:00:00+00:00"],
            "an": [1.5],
            "r": "[1,3)",
            "ip": "10.0.0.1",
            "p": "(1,2)",
            "nothing": None,
            "b_2": 1,
        }
    ]


@pytest.mark.parametrize(
    "evil",
    [
        "'; drop table t; --",
        "x') on conflict do nothing; drop table t; --",
        "\\'; drop table t",
        "$$; drop table t; $$",
        "%(b)s",
        "$1",
    ],
)
async def test_injections_are_just_values(sql: Run, evil: str) -> None:
    await sql("create table t (s text)")
    given = {"a": evil, "b": "other"}
    assert (await sql("insert into t values (%(a)s)", given=given)).status == "ok"
    assert (await sql(BoundSql("insert into t values (%(__1)s)", {"__1": evil}))).status == "ok"
    assert (await sql("insert into t values ('%(a)s')", given=given)).status == "ok"
    assert (await sql("insert into t values (%(a)s)", params={"a": evil}, given={"a": "loses"})).status == "ok"
    assert rows(await sql("select s, count(*) as n from t where s = %(a)s group by s", given=given)) == [
        {"s": evil, "n": 4}
    ]


async def test_parameters_take_the_type_their_place_asks(sql: Run) -> None:
    await sql(
        "create type mood as enum ('sad', 'happy');"
        "create table t (i int, n numeric, f float8, s text, d date, j jsonb, js json, tags text[], u uuid,"
        " m mood, ms mood[], b bool)"
    )
    given = {
        "i": 5,
        "n": 1.25,
        "f": 2,
        "s": 7,
        "d": "2024-02-29",
        "j": [1, {"a": None}],
        "js": {"k": "v"},
        "tags": ["a b", "null", "", 'q"u', "c,d", "{e}", "\\", None],
        "u": "00000000-0000-0000-0000-000000000001",
        "m": "happy",
        "ms": ["sad"],
        "b": True,
    }
    names = ", ".join(given)
    marks = ", ".join(f"%({name})s" for name in given)
    (row,) = rows(await sql(f"insert into t ({names}) values ({marks}) returning *", given=given))
    assert row == {**given, "s": "7", "ms": "{sad}"}


@pytest.mark.parametrize(
    ("query", "given", "expected"),
    [
        ("select %(x)s as r", {"x": 5}, 5),
        ("select %(x)s as r", {"x": 2**40}, 2**40),
        ("select %(x)s as r", {"x": 1.5}, 1.5),
        ("select %(x)s as r", {"x": False}, False),
        ("select %(x)s as r", {"x": {"a": [1]}}, {"a": [1]}),
        ("select %(x)s as r", {"x": None}, None),
        ("select round(%(x)s, 1) as r", {"x": 1.26}, 1.3),
        ("select date '2024-01-01' + %(x)s as r", {"x": 1}, "2024-01-02"),
        ("select 2 = any(%(x)s) as r", {"x": [1, 2]}, True),
        ("select 'b' = any(%(x)s) as r", {"x": ["a", "b"]}, True),
        ("select count(*) as r from jsonb_array_elements(%(x)s)", {"x": [1, 2, 3]}, 3),
        ("select i as r from generate_series(1, 9) i order by i limit 1 offset %(x)s", {"x": 3}, 4),
        ("select 5 % 3 as r", {}, 2),
        ("select 'a%b' like 'a%%b' and 'axb' like '%(x)s%%' as r", {"x": "a"}, True),
    ],
)
async def test_a_bound_number_behaves_as_its_literal(sql: Run, query: str, given: Any, expected: Any) -> None:
    assert rows(await sql(query, given=given)) == [{"r": expected}]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("selec 1", "postgres.error"),
        ("select %(nope)s", "postgres.sql"),
        ("  -- nothing\n;", "postgres.sql"),
        ("select 1; commit", "postgres.sql"),
        ("begin", "postgres.sql"),
        ("copy pg_class from stdin", "postgres.sql"),
    ],
)
async def test_wrong_sql_is_reported(sql: Run, command: str, expected: str) -> None:
    assert code(await sql(command))[0] == expected
    assert (await sql("select 1")).status == "ok"


@pytest.mark.parametrize(
    "end",
    [
        "/* a /* b */ c */ COMMIT",
        "-- a\rCOMMIT",
        "ROLLBACK /* TO */",
        "ROLLBACK -- TO a\n",
        "/* */ ROLLBACK AND CHAIN",
        "select E'a'\n'\\''; COMMIT; select ''",
    ],
)
async def test_no_comment_hides_the_end_of_the_transaction(sql: Run, database: native.Connection, end: str) -> None:
    await sql("create table t (i int)")
    assert code(await sql(f"insert into t values (1); {end}; select 1/0"))[0] == "postgres.sql"
    assert database.run("select count(*) from t")[0][0] == 0


@pytest.mark.parametrize("back", ["ROLLBACK TO a", "/* to a */ rollback /**/ work -- it\n to savepoint a"])
async def test_going_back_to_a_savepoint_is_allowed_with_comments_too(sql: Run, back: str) -> None:
    command = f"create table t (i int); savepoint a; insert into t values (1); {back}; select * from t"
    assert rows(await sql(command)) == []


@pytest.mark.parametrize(
    "text",
    [
        "select 'a;b'; select 2",
        "select E'a\\';b'; select 2",
        "select E'a'\n'\\';b'; select 2",
        "select E'a' -- ;\n'\\';b'; select 2",
        "select $$a;b$$; select 2",
        "select $x$a;$$;b$x$; select 2",
        "select $é$a;b$é$; select 2",
        "select 1 as a$b$; select 2",
        "select 1 -- ;'\n; select 2",
        "select 1 -- ;'\r; select 2",
        "select /* ; /* ; */ ; */ 1; select 2",
        'select 1 as "a;""b"; select 2',
        "select 1 +/* ; */ 1; select 2",
    ],
)
def test_the_server_finds_the_same_statements(database: Connection, text: str) -> None:
    ours = [statement.text for statement in statements(text, {}, numbered)]
    assert len(ours) == 2
    # it takes one statement in a message, and refuses a second
    assert [len(database.statement(statement, [], 1).rows) for statement in ours] == [1, 1]
    with pytest.raises(native.DatabaseError, match="multiple commands"):
        database.statement(text, [], 1)


async def test_savepoints_are_the_users_own(sql: Run) -> None:
    command = "create table t (i int); savepoint a; insert into t values (1); rollback to savepoint a; select * from t"
    assert rows(await sql(command)) == []


async def test_what_cannot_run_in_a_transaction_runs_without(sql: Run) -> None:
    await sql("create table t (i int)")
    assert code(await sql("vacuum t"))[0] == "postgres.error"
    assert (await sql("vacuum t; vacuum t", transaction=False)).data["statement_count"] == 2


async def test_too_many_rows_are_an_error_and_change_nothing(sql: Run) -> None:
    await sql("create table t (i int)")
    assert (await sql("select * from generate_series(1, 10)", max_rows=10)).data["row_count"] == 10
    outcome = await sql("insert into t select * from generate_series(1, 11) returning i", max_rows=10)
    assert code(outcome) == ("postgres.too_many_rows", False)
    assert code(await sql("select repeat('x', 1000) from generate_series(1, 100)", max_bytes=50_000)) == (
        "postgres.too_many_rows",
        False,
    )
    assert rows(await sql("select count(*) as n from t")) == [{"n": 0}]


async def test_a_timeout_is_kept_by_the_server(sql: Run, database: native.Connection) -> None:
    outcome = await sql("create table t (i int); select pg_sleep(600)", timeout=0.3)
    assert code(outcome) == ("postgres.timeout", True)
    look = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()"
    async with asyncio.timeout(10):
        # the outcome may come a moment before the server has noticed
        while database.run(look) != [[0]]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert database.run("select count(*) from pg_tables where tablename = 't'") == [[0]]


async def test_cancelling_stops_the_server(sql: Run, database: native.Connection) -> None:
    look = "select count(*) from pg_stat_activity where query like 'select pg_sleep(500)%' and state = 'active'"
    task = asyncio.create_task(sql("select pg_sleep(500)"))
    for _ in range(200):
        if database.run(look) == [[1]]:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the statement never ran")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: database.run(look) == [[0]])


async def test_a_pool_limits_the_connections_in_use(sql: Run) -> None:
    holds = asyncio.create_task(sql("select pg_sleep(1), pg_backend_pid() as pid"))
    await asyncio.sleep(0.2)
    none_free = await sql("select 1", pool={"max_size": 1, "timeout": "50ms"})
    assert code(none_free) == ("postgres.pool", True)
    assert "no connection of 'wh' was free within 0.05 s: 1 are in use" in error_of(none_free)["message"]
    assert rows(await sql("select 1 as x", pool={"size": 2, "timeout": 1})) == [{"x": 1}]
    assert rows(await sql("select 2 as x", pool={"size": 1, "timeout": 30})) == [{"x": 2}], "it waits for the first"
    assert holds.done()


@pytest.mark.parametrize("pool", [{"min_size": -1}, {"size": 0}, {"size": 1, "nme": "x"}, {"timeout": "soon"}])
async def test_a_pool_that_is_none(sql: Run, pool: Any) -> None:
    assert code(await sql("select 1", pool=pool)) == ("postgres.config", False)


async def test_connections_are_kept_clean_and_dropped_on_error(sql: Run) -> None:
    first = rows(
        await sql("create temp table mine (i int); set search_path = pg_catalog; select pg_backend_pid() as pid")
    )
    look = "select pg_backend_pid() as pid, to_regclass('mine') as mine, current_setting('search_path') as path"
    (second,) = rows(await sql(look))
    assert second["pid"] == first[0]["pid"]
    assert (second["mine"], "public" in second["path"]) == (None, True)
    await sql("select 1 / 0")
    assert rows(await sql(look))[0]["pid"] != first[0]["pid"]


async def test_a_kept_connection_that_died_is_replaced_unseen(sql: Run, database: native.Connection) -> None:
    (row,) = rows(await sql("select pg_backend_pid() as pid"))
    database.run("select pg_terminate_backend(:pid, 5000)", pid=row["pid"])
    (again,) = rows(await sql("select pg_backend_pid() as pid"))
    assert again["pid"] != row["pid"]


async def test_a_connection_lost_while_it_works_is_retryable(sql: Run, database: native.Connection) -> None:
    outcome = await sql("select pg_terminate_backend(pg_backend_pid())")
    assert code(outcome)[1] is True
    assert outcome.extra["pg"]["sqlstate"] in ("57P01", "08006")


async def test_a_deadlock_is_retryable(sql: Run, database: native.Connection) -> None:
    await sql("create table t (i int primary key, n int); insert into t values (1, 0), (2, 0)")
    database.run("begin")
    database.run("update t set n = 1 where i = 2")
    task = asyncio.create_task(
        sql("set local deadlock_timeout = '50ms'; update t set n = 1 where i = 1; update t set n = 1 where i = 2")
    )
    for _ in range(200):
        if database.run("select count(*) from pg_locks where not granted and pid <> pg_backend_pid()") != [[0]]:
            break
        await asyncio.sleep(0.01)

    def collide() -> None:
        database.run("set local deadlock_timeout = '1h'")
        database.run("update t set n = 2 where i = 1")

    thread = threading.Thread(target=collide)
    thread.start()
    outcome = await task
    await asyncio.to_thread(thread.join)
    database.run("rollback")
    assert code(outcome) == ("postgres.error", True)
    assert outcome.extra["pg"]["sqlstate"] == "40P01"


async def test_rows_are_loaded_by_copy(sql: Run) -> None:
    create = "create table if not exists s.t (i int, s text, n numeric, j jsonb, tags text[], d date, b bool)"
    made = [
        {
            "i": i,
            "s": f"tab\t new\n \\N {i}",
            "n": 1.25,
            "j": {"i": [i]},
            "tags": ["a b", 'q"', "\\"],
            "d": "2024-01-01",
        }
        for i in range(5000)
    ]
    made.append({"i": None, "s": "", "b": True})
    outcome = await sql(f"create schema s; {create}", table="s.t", rows=made)
    assert (outcome.error, outcome.data["row_count"], outcome.data["statement_count"]) == (None, 5001, 3)
    found = rows(await sql("select * from s.t where i = 42 or i is null order by i"))
    assert found[0] == {**made[42], "b": None}
    assert found[1] == {"i": None, "s": "", "n": None, "j": None, "tags": None, "d": None, "b": True}


async def test_loading_can_replace_pick_columns_and_be_empty(sql: Run) -> None:
    await sql('create table "odd ""name" (i int, "select" text default \'d\')')
    target = {"table": 'odd "name'}
    await sql(**target, rows=[{"i": 1, "select": "x"}, {"i": 2, "select": "y"}])
    await sql(**target, rows=[{"i": 3, "select": "z"}], columns=["i"], mode="replace")
    assert rows(await sql('select * from "odd ""name"')) == [{"i": 3, "select": "d"}]
    empty = await sql(**target, rows=[], mode="replace")
    assert (empty.error, empty.data["row_count"]) == (None, 0)
    assert rows(await sql('select * from "odd ""name"')) == []


async def test_a_load_that_fails_loads_nothing(sql: Run) -> None:
    await sql("create table t (i int)")
    bad = [{"i": i} for i in range(20_000)] + [{"i": "x"}]
    outcome = await sql("insert into t values (0)", table="t", rows=bad)
    assert code(outcome) == ("postgres.error", False)
    assert outcome.extra["pg"]["sqlstate"] == "22P02"
    assert rows(await sql("select count(*) as n from t")) == [{"n": 0}]
    assert outcome.error is not None
    unknown = await sql(table="t", rows=[{"nope": 1}])
    assert unknown.extra["pg"]["sqlstate"] == "42703"


async def test_every_character_arrives_as_it_was(sql: Run) -> None:
    await sql("create table t (n int, s text)")
    texts = [chr(number) for number in range(1, 256)] + ["\r\n", "a\rb", "\\.", "\\N", "\\r", "\x0b\x1c\x85\u2028"]
    loaded = await sql(table="t", rows=[{"n": n, "s": text} for n, text in enumerate(texts)])
    assert loaded.error is None
    assert [row["s"] for row in rows(await sql("select s from t order by n"))] == texts


async def test_a_table_name_cannot_carry_sql(sql: Run) -> None:
    await sql("create table t (i int)")
    outcome = await sql(table="t; drop table t; --", rows=[{'i" int); --': 1}], mode="replace")
    assert outcome.extra["pg"]["sqlstate"] == "42P01"
    assert rows(await sql("select count(*) as n from t")) == [{"n": 0}]


async def test_calls_run_side_by_side(sql: Run) -> None:
    outcomes = await asyncio.gather(*(sql("select pg_sleep(0.05), %(n)s as n", given={"n": n}) for n in range(20)))
    assert [rows(outcome)[0]["n"] for outcome in outcomes] == list(range(20))


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("postgres", {"password": "wrong-secret"}, ("postgres.sign_in", False)),
        ("postgres", {"database": "nowhere"}, ("postgres.error", False)),
        ("postgres", {"port": 1}, ("postgres.connection", True)),
        ("postgres", {"sslmode": "require"}, ("postgres.connection", True)),
        ("bearer", {}, ("credential.unfit", False)),
    ],
)
async def test_a_credential_that_is_not_accepted(
    run: Run, postgres_url: str, credentials: dict[str, Credential], kind: str, change: Any, expected: tuple[str, bool]
) -> None:
    parts = urlsplit(postgres_url)
    data = {"host": parts.hostname, "port": parts.port, "user": parts.username, "password": parts.password}
    credentials["c"] = Credential("c", kind, {**data, "database": parts.path[1:], **change})
    outcome = await run("postgres", {"auth": "c", "command": "select 1"})
    assert code(outcome) == expected
    assert "secret" not in str(outcome.error)
    assert str(parts.password) not in str(outcome.error)


async def test_a_credential_in_parts_serves_as_well_as_a_url(
    run: Run, postgres_url: str, credentials: dict[str, Credential]
) -> None:
    parts = urlsplit(postgres_url)
    credentials["c"] = Credential(
        "c",
        "postgres",
        {
            "host": parts.hostname,
            "port": str(parts.port),
            "username": parts.username,
            "password": parts.password,
            "dbname": parts.path[1:],
        },
    )
    assert (await run("postgres", {"auth": "c", "query": "select 1 as x"})).data["rows"] == [{"x": 1}]
    assert code(await run("postgres", {"auth": "none", "query": "select 1"})) == ("credential.missing", False)


@pytest.fixture
def template(sql: Run) -> Run:
    """Runs SQL with templates, as a step would."""

    async def template(source: str, **scope: Any) -> ToolOutcome:
        return await sql(SqlTemplate(source).render(scope))

    return template


@pytest.mark.parametrize(
    ("expression", "scope", "value"),
    [
        ("'{{ x }}'", {"x": "it's"}, "it's"),
        ("'{{ x }}'", {"x": None}, None),
        ("'<{{ x }}>'", {"x": None}, "<>"),
        ("'{{ x }}'", {"x": True}, "true"),
        ("'{{ x }}'::jsonb", {"x": {"a": [1, "ä"]}}, {"a": [1, "ä"]}),
        (r"E'a\t{{ x }}\u00e9\'\x41'", {"x": "\\n"}, "a\t\\né'A"),
        ("$${{ x }}'s$$ || $t${{ x }}$t$", {"x": "$$"}, "$$'s$$"),
        ("'a'\n  '{{ x }}'", {"x": "b"}, "ab"),
        ("N'{{ x }}'", {"x": "b"}, "b"),
        ("'{{ x }}'::date + INTERVAL '{{ n }} days'", {"x": "2024-01-30", "n": 3}, "2024-02-02T00:00:00"),
        ("DATE '{{ x }}' + INTERVAL '{{ n }}' DAY", {"x": "2024-01-30", "n": 3}, "2024-02-02T00:00:00"),
        ("timestamp with time zone '{{ x }}'", {"x": "2024-01-01 12:00+02"}, "2024-01-01T10:00:00+00:00"),
        ("'{ {{ a }}, {{ b }} }'::int[]", {"a": 1, "b": 2}, [1, 2]),
        ("5 IN ('{{ a }}', '{{ b }}')", {"a": 4, "b": "5"}, True),
        ("'a-b' LIKE '%{{ x }}%'", {"x": "-"}, True),
        ("concat('{{ x }}', 1, '{{ y }}')", {"x": "a", "y": None}, "a1"),
        ("jsonb_build_object('k', '{{ x }}', 'n', '{{ n }}'::int)", {"x": "a", "n": 2}, {"k": "a", "n": 2}),
        ("'{\"a\": {\"b\": 1}}'::jsonb #>> '{a,{{ k }}}'", {"k": "b"}, "1"),
        ("'{\"a\": 1}'::jsonb @> '{\"a\": {{ n }}}'", {"n": 1}, True),
        ("coalesce(nullif('{{ x }}', ''), 'none')", {"x": ""}, "none"),
        ("set_config('my.x', '{{ x }}', true)", {"x": "y"}, "y"),
        ("(SELECT string_agg(v, '{{ x }}') FROM (VALUES ('a'), ('{{ y }}')) AS t (v))", {"x": "+", "y": "b"}, "a+b"),
        ("1 /* {{ x }} */ + 1 -- {{ x }}", {"x": "*/"}, 2),
        ("(SELECT 'x' LIMIT {{ n }})", {"n": 1}, "x"),
        ("'{{ x }}' IS NULL", {"x": None}, True),
        ("'{{ x }}' IS NULL", {"x": "a"}, False),
        ("{{ x }} IS NOT NULL AND {{ n }} IS NULL", {"x": "a", "n": None}, True),
        ("(SELECT 'x' WHERE {{ n }} IS NULL OR 1 = {{ n }})", {"n": 1}, "x"),
        ("1 = '{{ n }}' IS NULL", {"n": 1}, False),
        ("coalesce('{{ n }}', 'x') || coalesce('{{ n }}', 1)", {"n": "5"}, "55"),
    ],
)
async def test_a_literal_with_values_means_what_it_would_as_text(
    template: Run, expression: str, scope: dict[str, Any], value: Any
) -> None:
    assert rows(await template(f"SELECT {expression}\nAS v", **scope)) == [{"v": value}]


async def test_literals_with_values_are_inserted_into_columns_of_any_type(template: Run, sql: Run) -> None:
    await sql("create table t (i int, s text, d date, j jsonb, b bool, n numeric, l int[], u uuid)")
    uid = "00000000-0000-0000-0000-000000000001"
    source = (
        "INSERT INTO {{ t | identifier }} VALUES ('{{ i }}', '{{ s }}', '{{ d }}', '{{ j }}', '{{ b }}', '{{ n }}', "
        "'{1,{{ i }}}', '{{ u }}') RETURNING *"
    )
    values: dict[str, Any] = {"i": 7, "s": "a'; drop table t; --", "d": "2024-01-02", "j": {"k": [1]}, "b": False}
    outcome = await template(source, t="t", **values, n=2.5, u=uid)
    assert rows(outcome) == [{**values, "n": 2.5, "l": [1, 7], "u": uid}]
    outcome = await template(
        "UPDATE t SET s = 'by {{ s }}' WHERE i = '{{ i }}' AND d >= '{{ d }}' RETURNING s", **values
    )
    assert rows(outcome) == [{"s": "by a'; drop table t; --"}]


async def test_an_expression_with_the_same_literal_can_be_grouped_by(template: Run) -> None:
    source = (
        "SELECT date_trunc('{{ u }}', x) AS d, count(*) AS n FROM (VALUES (timestamp '2024-01-05')) AS t (x) "
        "GROUP BY date_trunc('{{ u }}', x)"
    )
    assert rows(await template(source, u="month")) == [{"d": "2024-01-01T00:00:00", "n": 1}]


@pytest.mark.parametrize(
    ("source", "instead"), [("SET my.x = '{{ x }}'", "set_config"), ("NOTIFY c, {{ x }}", "pg_notify")]
)
async def test_where_the_server_binds_no_value_the_error_says_what_to_write(
    template: Run, source: str, instead: str
) -> None:
    outcome = await template(source, x="a")
    assert code(outcome) == ("postgres.sql", False)
    assert instead in error_of(outcome)["message"]
