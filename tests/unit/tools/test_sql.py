from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.tools.sql import SqlError, named, numbered, statements, unique


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


@pytest.mark.parametrize("sql", ['select "%(a)s"', "select E'%(a)s'", "do $$ %(a)s $$"])
def test_a_placeholder_where_nothing_can_be_bound_is_refused(sql: str) -> None:
    with pytest.raises(SqlError, match="is not allowed inside"):
        split(sql, a=1)


def test_a_placeholder_in_a_comment_is_left_alone() -> None:
    assert split("select 1 -- %(a)s") == [("select 1 -- %(a)s", [])]


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
