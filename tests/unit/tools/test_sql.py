from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.tools.sql import (
    SqlError,
    name_needed,
    named,
    numbered,
    statements,
    unique,
    without_placeholders,
)


def split(sql: str, **params: Any) -> list[tuple[str, list[Any]]]:
    return [(found.text.strip(), list(found.values.values())) for found in statements(sql, params, numbered)]


def test_a_placeholder_is_bound_and_counted_once() -> None:
    assert split("select %(a)s, %(b)s, %(a)s", a=1, b=2) == [("select $1, $2, $1", [1, 2])]


def test_duckdb_placeholders_keep_their_names() -> None:
    assert statements("select %(a)s", {"a": 1}, named)[0].text == "select $a"


def test_each_statement_has_its_own_parameters() -> None:
    assert split("select %(a)s; select %(b)s;", a=1, b=2) == [("select $1", [1]), ("select $1", [2])]


@pytest.mark.parametrize(
    "sql",
    [
        "select 'a;b'",
        'select 1 as "a;b"',
        "select E'a\\';b'",
        "select $$a;b$$",
        "do $x$ begin; end; $x$",
        "select 1 -- a;b",
        "select /* a; /* b; */ c; */ 1",
        "select 'it''s; fine'",
    ],
)
def test_a_semicolon_in_text_or_comment_splits_nothing(sql: str) -> None:
    assert split(sql) == [(sql, [])]


def test_comments_alone_are_no_statement() -> None:
    assert split("-- one\n; /* two */ ;\n select 1 ;") == [("select 1", [])]


@pytest.mark.parametrize("sql", ["select 5 % 3", "select 'a' like '%%b'", "select '%', 10 %2", "select '100%'"])
def test_percent_signs_stay_without_parameters(sql: str) -> None:
    assert split(sql) == [(sql, [])]


def test_doubled_percent_signs_are_one_beside_parameters() -> None:
    assert split("select %(a)s where x like 'b%%' and 5 %% 2 = 5 % 3", a=1) == [
        ("select $1 where x like 'b%' and 5 % 2 = 5 % 3", [1])
    ]


def test_a_percent_sign_before_a_templates_placeholder_stays() -> None:
    assert split("select 7 %%(__1)s", __1=4) == [("select 7 %$1", [4])]


def test_quoted_text_around_a_placeholder_is_bound_as_a_whole() -> None:
    found = split("select 'it''s %(a)s-%(n)s', '%(a)s'", a="x'; drop table t; --", n=3)
    assert found == [("select $1, $2", ["it's x'; drop table t; ---3", "x'; drop table t; --"])]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ('select "%(a)s"', "is not allowed inside"),
        ("do $$ %(a)s $$", "DO block"),
        ("create function f() returns int as '%(a)s' language sql", "body of a function"),
        ("select X'%(a)s'", "X'...'"),
        (r"select E'\%(a)s'", "a backslash"),
        (r"select E'\xff%(a)s'", "not valid"),
    ],
)
def test_a_placeholder_where_nothing_can_be_bound_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(SqlError, match=reason):
        split(sql, a=1)


def test_a_comment_with_a_placeholder_is_left_out() -> None:
    assert split("select 1 -- %(a)s") == [("select 1", [])]
    assert split("select /*+ hint */ %(a)s", a=1) == [("select /*+ hint */ $1", [1])]


@pytest.mark.parametrize(
    ("value", "lone", "mixed"),
    [
        (None, None, "-"),
        (True, "true", "true-"),
        (2.5, "2.5", "2.5-"),
        (7, "7", "7-"),
        ([1, "ä"], '[1,"ä"]', '[1,"ä"]-'),
        ({"a": None}, '{"a":null}', '{"a":null}-'),
        ("%(b)s;'", "%(b)s;'", "%(b)s;'-"),
    ],
)
def test_values_in_a_literal_are_text(value: Any, lone: Any, mixed: str) -> None:
    for opening, closing in (("'", "'"), ("E'", "'"), ("$$", "$$"), ("$a$", "$a$")):
        assert split(f"select {opening}%(a)s{closing}", a=value) == [("select $1", [lone])]
        assert split(f"select {opening}%(a)s-{closing}", a=value) == [("select $1", [mixed])]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (r"\b\f\n\r\t", "\b\f\n\r\t"),
        (r"\\ \' '' \q", "\\ ' ' q"),
        (r"\101\x41\xc3\xa9", "AAé"),
        (r"\u00e9\U0001F600\ud83d\ude00", "é😀😀"),
        (r"\\%%", "\\%"),
    ],
)
def test_escapes_are_those_of_postgresql(content: str, text: str) -> None:
    assert split(f"select E'{content}%(a)s'", a="!") == [("select $1", [text + "!"])]


@pytest.mark.parametrize(
    ("sql", "expected", "value"),
    [
        ("now() - interval '%(a)s days'", "now() - CAST($1 AS interval)", "5 days"),
        ("INTERVAL '%(a)s' DAY * 2", "CAST($1 AS INTERVAL) * 2", "5 DAY"),
        ("interval %(a)s hours", "CAST($1 AS interval)", "5 hours"),
        ("x > DATE '%(a)s'", "x > CAST($1 AS DATE)", "5"),
        ("timestamp (3) with  time zone'%(a)s'", "CAST($1 AS timestamp (3) with time zone)", "5"),
        ("x at time zone '%(a)s'", "x at time zone $1", "5"),
        ("x::date = '%(a)s'", "x::date = $1", "5"),
        ("my_date '%(a)s'", "my_date $1", "5"),
        ("N'%(a)s'", "$1", "5"),
        ("x like'%(a)s'and y", "x like $1 and y", "5"),
        ("concat('%(a)s', x)", "concat(CAST($1 AS text), x)", "5"),
        ("concat(lower('%(a)s'), x)", "concat(lower($1), x)", "5"),
        ("format('%%s', '%(a)s')", "format('%s', CAST($1 AS text))", "5"),
        ("jsonb_build_object('k', '%(a)s'::int)", "jsonb_build_object('k', $1::int)", "5"),
        ("'%(a)s' IS NULL", "CAST($1 AS text) IS NULL", "5"),
        ("x where (y or '%(a)s'  is not null)", "x where (y or CAST($1 AS text)  is not null)", "5"),
        ("x = '%(a)s' IS NULL", "x = $1 IS NULL", "5"),
        ("'%(a)s'::int IS NULL", "$1::int IS NULL", "5"),
        ("'%(a)s' IS DISTINCT FROM x", "$1 IS DISTINCT FROM x", "5"),
    ],
)
def test_the_place_gives_the_text_its_type(sql: str, expected: str, value: str) -> None:
    assert split(f"select {sql}", a=5) == [(f"select {expected}", ["5"] if value == "5" else [value])]


def test_the_same_text_in_equal_calls_is_one_parameter() -> None:
    sql = "select date_trunc('%(a)s', x) from t group by date_trunc('%(a)s', x), f('%(b)s')"
    assert split(sql, a="day", b="day") == [
        ("select date_trunc($1, x) from t group by date_trunc($1, x), f($2)", ["day", "day"])
    ]
    assert split("values ('%(a)s', '%(a)s')", a=1) == [("values ($1, $2)", ["1", "1"])]


def test_calls_that_only_begin_alike_have_parameters_of_their_own() -> None:
    """Each may have another type."""
    sql = "select coalesce('%(a)s', 'x'), coalesce('%(b)s', 1), coalesce('%(b)s', 1)"
    assert split(sql, a="5", b="5") == [
        ("select coalesce($1, 'x'), coalesce($2, 1), coalesce($2, 1)", ["5", "5"]),
    ]
    assert split("select f(g('%(a)s'), 1), f(g('%(a)s'), 2)", a="x") == [
        ("select f(g($1), 1), f(g($1), 2)", ["x"]),
    ]


def test_many_values_in_one_call_take_a_time_that_grows_with_their_number() -> None:
    marks = ", ".join(f"%(p{number})s" for number in range(20_000))
    sql, params = f"select f({marks})", {f"p{number}": f"text {number}" for number in range(20_000)}
    tracemalloc.start()
    ((text, values),) = split(sql, **params)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert text.endswith("$19999, $20000)") and values[-1] == "text 19999"
    assert peak < 40_000_000, "each value holds a copy of what stands before it"


PIECES = st.sampled_from(["'", '"', "\\", "%", "$$", "$a$", ";", "--", "/*", "*/", "\n", "%(a)s", "%%", "E'", "x", "é"])


@given(value=st.lists(PIECES, max_size=12).map("".join), literal=st.sampled_from(["'@'", "E'@'", "$$@$$", "$a$@$a$"]))
def test_whatever_a_value_holds_it_is_not_in_the_sql(value: str, literal: str) -> None:
    sql = f"select {literal.replace('@', '<%(v)s>')}; delete from t where x = %(v)s"
    assert split(sql, v=value, a="!") == [("select $1", [f"<{value}>"]), ("delete from t where x = $1", [value])]


def test_an_unknown_parameter_is_named_with_those_there_are() -> None:
    with pytest.raises(SqlError, match=r"no value for the parameter %\(c\)s; given parameters: a, b"):
        split("select %(c)s", a=1, b=2)


@pytest.mark.parametrize(
    "sql",
    [
        "/* x */ -- y\n commit",
        "/* a /* b */ c */ COMMIT",
        "-- hidden\rCommit",
        "commit/* x */and chain",
        "COMMIT--x",
    ],
)
def test_the_verb_is_the_first_word_outside_of_comments(sql: str) -> None:
    assert statements(sql, {}, numbered)[0].verb == "COMMIT"


@pytest.mark.parametrize(("sql", "kind"), [("select 'a; b", "quotes"), ("select /* /* */ 1", "a comment")])
def test_what_is_not_closed_is_refused(sql: str, kind: str) -> None:
    with pytest.raises(SqlError, match=f"{kind} not closed"):
        split(sql)


def test_repeated_column_names_are_numbered() -> None:
    assert unique(["id", "id", "id_2", "n", "id"]) == ["id", "id_2", "id_2_2", "n", "id_3"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$__1", "?"),
        ("($__1 + $__12)", "(? + ?)"),
        ("CAST($__text_2 AS DATE)", "CAST(? AS DATE)"),
        ("$n", "$n"),
        ("($__n + $_1 + $__1a)", "($__n + $_1 + $__1a)"),
        ("__1", "__1"),
    ],
)
def test_a_column_is_not_named_by_a_placeholder_of_a_template(name: str, shown: str) -> None:
    assert without_placeholders(name) == shown


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        ('syntax error at or near "$1"', True),
        # DuckDB's
        ('Parser Error: syntax error at or near "$"', True),
        ('syntax error at or near "FRM"', False),
        ("could not determine data type of parameter $1", False),
    ],
)
def test_a_syntax_error_at_a_parameter_means_that_a_name_is_needed(message: str, needed: bool) -> None:
    assert ("{{ ... | identifier }}" in name_needed(message)) == needed
