from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import duckdb
import pytest

from noetl_serverless.playbook.template import BoundSql, SqlTemplate
from noetl_serverless.tools import registry
from noetl_serverless.tools.port import ToolOutcome
from noetl_serverless.tools.sql import named, statements

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]


def error_of(outcome: ToolOutcome) -> dict[str, Any]:
    assert outcome.error is not None
    return outcome.error


@pytest.fixture
def duck(run: Run) -> Run:
    async def duck(query: Any, input: dict[str, Any] | None = None, timeout: float | None = None, **more: Any) -> Any:
        context = {"execution_id": more.pop("execution_id", "7")}
        return await run("duckdb", {"query": query, **more}, input, timeout, **context)

    return duck


def folders(scratch: Path) -> list[Path]:
    return list(scratch.glob("duckdb-*"))


def code(outcome: ToolOutcome) -> str:
    assert outcome.status == "error"
    assert outcome.error is not None
    return str(error_of(outcome)["code"])


async def test_lists_of_objects_are_tables(duck: Run) -> None:
    rows = [{"g": "a", "v": 1}, {"g": "a", "v": 2.5}, {"g": "b", "v": 3, "extra": "x"}]
    outcome = await duck(
        "select g, sum(v) as total, max(extra) as extra from rows group by g order by g", {"rows": rows}
    )
    assert outcome.data == {
        "status": "ok",
        "rows": [{"g": "a", "total": 3.5, "extra": None}, {"g": "b", "total": 3.0, "extra": "x"}],
        "row_count": 2,
        "columns": ["g", "total", "extra"],
        "statement_count": 1,
    }


async def test_a_column_of_mixed_values_is_text(duck: Run) -> None:
    outcome = await duck("select v from rows", {"rows": [{"v": 1}, {"v": "a"}, {"v": {"k": 1}}, {"v": None}]})
    assert [row["v"] for row in outcome.data["rows"]] == ["1", "a", '{"k":1}', None]


async def test_values_are_bound_by_either_notation_and_by_template(duck: Run) -> None:
    evil = "x'; drop table t; --"
    outcome = await duck("select $a as a, %(b)s as b, 7 % 4 as m", {"a": evil, "b": [1, 2], "unused": 1})
    assert outcome.data["rows"] == [{"a": evil, "b": [1, 2], "m": 3}]
    outcome = await duck(BoundSql("select %(__1)s as x, $a as a", {"__1": evil}), {"a": 1})
    assert outcome.data["rows"] == [{"x": evil, "a": 1}]


async def test_columns_without_an_alias_have_no_internal_names(duck: Run) -> None:
    sql = "select {{ a }}, {{ b }} + 1, {{ b }}, upper('{{ a }}!'), date '{{ day }}', $n + 1, {{ a }} as x"
    bound = SqlTemplate(sql).render({"a": "x", "b": 2, "day": "2024-02-29"})
    outcome = await duck(bound, {"n": 1})
    assert outcome.data["columns"] == ["?", "(? + 1)", "?_2", "upper(?)", "CAST(? AS date)", "($n + 1)", "x"]
    assert list(outcome.data["rows"][0].values()) == ["x", 3, 2, "X!", "2024-02-29", 2, "x"]


async def test_a_table_made_of_such_columns_does_not_show_them_either(duck: Run) -> None:
    bound = SqlTemplate("create table t as select {{ b }} + 1; select * from t").render({"b": 2})
    assert (await duck(bound)).data["rows"] == [{"(? + 1)": 3}]


@pytest.mark.parametrize(
    "text",
    [
        "select E'a\\';b'; select 2",
        "select $x$a;$$;b$x$; select 2",
        "select 1 -- ;'\n; select 2",
        "select /* ; /* ; */ ; */ 1; select 2",
        'select 1 as "a;""b"; select 2',
    ],
)
def test_duckdb_finds_the_same_statements(text: str) -> None:
    theirs = [statement.query.strip() for statement in duckdb.extract_statements(text)]
    assert len(theirs) == 2
    assert [statement.text.strip() for statement in statements(text, {}, named)] == [
        statement.rstrip(";").strip() for statement in theirs
    ]


async def test_params_win_over_input(duck: Run) -> None:
    assert (await duck("select $a as a", {"a": 1}, params={"a": 2})).data["rows"] == [{"a": 2}]


@pytest.mark.parametrize(
    "first", ["select 1", "select range from range(100000)", "select setseed(0.5)", "call pragma_version()"]
)
@pytest.mark.parametrize(
    "last", ["select $n::integer as n", "from (values (2)) t(n)", "select 2 as n, 1::variant as v"]
)
async def test_a_query_may_come_before_the_last_statement(duck: Run, first: str, last: str) -> None:
    outcome = await duck(f"{first}; {last}", params={"n": 2})
    assert outcome.error is None, outcome
    assert [row["n"] for row in outcome.data["rows"]] == [2]


async def test_a_query_before_the_last_statement_runs_to_its_end(duck: Run) -> None:
    late = "select case when range = 99999 then error('boom') end from range(100000)"
    outcome = await duck(f"{late}; create table t (i int)")
    assert outcome.error is not None, "a row after the first ones has an error"
    assert "boom" in outcome.error["message"]
    outcome = await duck("select sum(a.range + b.range) from range(1000000) a, range(1000000) b; select 1", timeout=0.3)
    assert code(outcome) == "duckdb.timeout"


async def test_the_last_statement_gives_the_rows(duck: Run) -> None:
    outcome = await duck("create table t (i int); insert into t values (1), (2); select i from t order by i")
    assert (outcome.data["rows"], outcome.data["statement_count"]) == ([{"i": 1}, {"i": 2}], 3)
    outcome = await duck("create table t (i int); insert into t values (1), (2)")
    assert (outcome.data["rows"], outcome.data["row_count"]) == ([], 2)
    outcome = await duck("create table t (i int)")
    assert (outcome.data["rows"], outcome.data["row_count"], outcome.data["columns"]) == ([], 0, [])


async def test_values_come_out_as_json(duck: Run) -> None:
    outcome = await duck(
        "select 1.10::decimal(9,2) d, 9223372036854775807::hugeint * 10 h, date '2024-02-29' dt, "
        "timestamptz '2024-01-01 00:00:00+02' ts, 'a'::blob b, {'x': 1.5} s, 'nan'::double n, 1 as d"
    )
    assert outcome.data["rows"] == [
        {
            "d": 1.1,
            "h": "92233720368547758070",
            "dt": "2024-02-29",
            "ts": "2023-12-31T22:00:00+00:00",
            "b": "YQ==",
            "s": {"x": 1.5},
            "n": None,
            "d_2": 1,
        }
    ]


async def test_memory_is_one_calls_alone_and_a_file_one_executions(duck: Run, tmp_path: Path) -> None:
    await duck("create table t as select 1 as i")
    assert code(await duck("select * from t")) == "duckdb.error"
    await duck("create table t as select 1 as i", database="d/x.duckdb")
    assert (await duck("select i from t", database="d/x.duckdb")).data["rows"] == [{"i": 1}]
    assert code(await duck("select i from t", database="d/x.duckdb", execution_id="8")) == "duckdb.error"


async def test_a_folder_of_anothers_is_not_in_the_way(duck: Run, tmp_path: Path) -> None:
    # as one that belongs to another user: nothing can be made in it
    (tmp_path / "duckdb").write_text("")
    outcome = await duck("create table t as select 1 as i", database="x.duckdb")
    assert outcome.error is None
    (own,) = folders(tmp_path)
    assert own.stat().st_mode & 0o777 == 0o700
    assert (own / "7" / "x.duckdb").exists()


async def test_nothing_is_left_by_a_tool_that_is_closed(duck: Run, tmp_path: Path) -> None:
    await duck("create table t as select 1 as i", database="x.duckdb")
    await registry.close()
    assert folders(tmp_path) == []
    assert (await duck("select 1 as i", database="x.duckdb")).error is None


async def test_tasks_of_one_execution_may_use_a_file_side_by_side(duck: Run) -> None:
    await duck("create table t (i int)", database="x.duckdb")
    outcomes = await asyncio.gather(
        *(duck("insert into t values ($i)", {"i": i}, database="x.duckdb") for i in range(6))
    )
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert (await duck("select count(*) as n from t", database="x.duckdb")).data["rows"] == [{"n": 6}]


async def test_files_of_the_execution_can_be_written_and_read(duck: Run) -> None:
    outcome = await duck(
        "copy (select 1 as a) to (getvariable('folder') || '/o.csv');"
        "select a from read_csv(getvariable('folder') || '/o.csv')"
    )
    assert (outcome.error, outcome.data and outcome.data["rows"]) == (None, [{"a": 1}])


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from read_text(getvariable('folder') || '/../../../secret.csv')",
        "copy (select 1) to '/tmp/noetl-escape.csv'",
        "attach '/tmp/noetl-escape.db'",
        "select * from read_csv('http://127.0.0.1:1/x')",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "set memory_limit = '100GB'",
        "reset lock_configuration",
        "select * from rows_of_the_engine",
        "export database '/tmp/noetl-escape'",
    ],
)
async def test_nothing_outside_can_be_reached(duck: Run, tmp_path: Path, query: str) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    rows_of_the_engine = [{"a": 1}]
    assert code(await duck(query)) in ("duckdb.refused", "duckdb.error")
    assert code(await duck(query, database="x.duckdb")) in ("duckdb.refused", "duckdb.error")
    assert rows_of_the_engine == [{"a": 1}]


@pytest.mark.parametrize("path", ["../x", "/tmp/x.duckdb", "a/../../x", "md:cloud", "s3://b/x"])
async def test_a_database_lies_in_the_executions_folder(duck: Run, path: str) -> None:
    assert code(await duck("select 1", database=path)) == "duckdb.config"


async def test_attaching_other_databases_is_not_supported_yet(duck: Run) -> None:
    outcome = await duck("select 1", auth={"pg": "warehouse"})
    assert code(outcome) == "duckdb.config"
    assert "not supported yet" in error_of(outcome)["message"]


async def test_a_timeout_interrupts_the_query(duck: Run) -> None:
    outcome = await duck("select sum(a.range * b.range) from range(10000000) a, range(10000000) b", timeout=0.2)
    assert code(outcome) == "duckdb.timeout"
    assert error_of(outcome)["retryable"] is True


async def test_cancelling_interrupts_the_query(duck: Run) -> None:
    task = asyncio.create_task(duck("select sum(a.range * b.range) from range(10000000) a, range(10000000) b"))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_too_many_rows_are_an_error_not_a_cut(duck: Run) -> None:
    assert (await duck("select * from range(10)", max_rows=10)).data["row_count"] == 10
    assert code(await duck("select * from range(11)", max_rows=10)) == "duckdb.too_many_rows"


async def test_memory_is_limited(duck: Run) -> None:
    query = "select list(range::varchar || repeat('x', 1000)) as l from range(1000000)"
    assert code(await duck(query, memory_mb=64)) == "duckdb.memory"


@pytest.mark.parametrize(
    ("query", "expected"), [("selec 1", "duckdb.error"), ("select $x", "duckdb.sql"), (" ; ", "duckdb.sql")]
)
async def test_wrong_sql_is_reported(duck: Run, query: str, expected: str) -> None:
    assert code(await duck(query)) == expected


@pytest.mark.parametrize(
    ("expression", "scope", "value"),
    [
        ("'{{ x }}'", {"x": "it's"}, "it's"),
        ("'{{ x }}'", {"x": None}, None),
        ("'<{{ x }}>'", {"x": None}, "<>"),
        (r"E'a\t{{ x }}'", {"x": "\\n"}, "a\t\\n"),
        ("$${{ x }}'s$$", {"x": "$$"}, "$$'s"),
        ("'a'\n  '{{ x }}'", {"x": "b"}, "ab"),
        ("DATE '{{ x }}' + INTERVAL '{{ n }} days'", {"x": "2024-01-30", "n": 3}, "2024-02-02T00:00:00"),
        ("'{{ x }}'::date + INTERVAL {{ n }} DAY", {"x": "2024-01-30", "n": 3}, "2024-02-02T00:00:00"),
        ("5 IN ('{{ a }}', '{{ b }}')", {"a": 4, "b": "5"}, True),
        ("'a-b' LIKE '%{{ x }}%'", {"x": "-"}, True),
        ("concat('{{ x }}', 1)", {"x": "a"}, "a1"),
        ("'{\"a\": 1}'::json ->> '$.{{ k }}'", {"k": "a"}, "1"),
        ("strftime(DATE '2024-01-02', '%Y/{{ x }}')", {"x": "%m"}, "2024/01"),
        ("(SELECT sum(i) FROM range('{{ n }}'::int) AS t (i))", {"n": 4}, 6),
    ],
)
async def test_a_literal_with_values_means_what_it_would_as_text(
    duck: Run, expression: str, scope: dict[str, Any], value: Any
) -> None:
    outcome = await duck(SqlTemplate(f"SELECT {expression} AS v").render(scope))
    assert outcome.error is None, outcome.error
    assert outcome.data["rows"] == [{"v": value}]


async def test_literals_with_values_fit_columns_of_any_type(duck: Run) -> None:
    source = (
        "CREATE TABLE t (i int, s text, d date, b bool, l int[]);"
        "INSERT INTO t VALUES ('{{ i }}', '{{ s }}', '{{ d }}', '{{ b }}', '[1, {{ i }}]');"
        "SELECT * FROM t WHERE i = '{{ i }}' AND d BETWEEN '2024-01-01' AND '{{ d }}' AND s LIKE '{{ s }}%'"
    )
    values = {"i": 7, "s": "a'; drop table t; --", "d": "2024-01-02", "b": False}
    outcome = await duck(SqlTemplate(source).render(values))
    assert outcome.error is None, outcome.error
    assert outcome.data["rows"] == [{**values, "l": [1, 7]}]


async def test_a_file_that_another_task_has_open_with_other_settings_is_busy(duck: Run, tmp_path: Path) -> None:
    await duck("create table t (n int)", database="x.db")
    file = next(file for folder in folders(tmp_path) for file in folder.rglob("x.db"))
    with duckdb.connect(str(file), config={"threads": 1}):
        outcome = await duck("select 1", database="x.db", threads=2)
    assert (code(outcome), error_of(outcome)["retryable"]) == ("duckdb.busy", True)
    assert (await duck("select 1 as n", database="x.db", threads=2)).data["rows"] == [{"n": 1}]
