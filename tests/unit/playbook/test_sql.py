from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.template import BoundSql, Place, SqlTemplate, TemplateError
from noetl_serverless.tools.sql import numbered, statements


def bind(source: str, **names: Any) -> BoundSql:
    return SqlTemplate(source, Place(3, 1)).render(names)


def statement(sql: BoundSql) -> tuple[str, list[Any]]:
    (found,) = statements(sql.text, sql.values, numbered)
    return found.text, list(found.values.values())


def test_each_expression_becomes_a_bound_value() -> None:
    sql = bind("SELECT {{ a }} FROM t WHERE x = {{ b.c | upper }} AND d = %(mine)s", a=[1], b={"c": "it's"})
    assert sql.text == "SELECT %(__1)s FROM t WHERE x = %(__2)s AND d = %(mine)s"
    assert sql.values == {"__1": [1], "__2": "IT'S"}


def test_text_without_placeholders_stays_as_it_is() -> None:
    assert bind("SELECT '{a}' LIKE 'a%'") == BoundSql("SELECT '{a}' LIKE 'a%'", {})


def test_a_quoted_name_is_the_only_text_put_in() -> None:
    assert statement(bind('SELECT * FROM {{ "s.t" | identifier }}')) == ('SELECT * FROM "s"."t"', [])
    assert statement(bind("SELECT {{ x | identifier }}", x='a"; DROP')) == ('SELECT "a""; DROP"', [])
    sql = statement(bind("SELECT {{ (x | identifier) ~ '; DROP TABLE t' }}", x="a"))
    assert sql == ("SELECT $1", ['"a"; DROP TABLE t'])


@pytest.mark.parametrize(
    "source", ["SELECT '{{ x | identifier }}'", "SELECT '{% if true %}{{ x | identifier }}{% endif %}'"]
)
def test_a_quoted_name_inside_of_a_literal_is_bound_with_it(source: str) -> None:
    assert statement(bind(source, x="a'; DROP")) == ("SELECT $1", ['"a\'; DROP"'])


@pytest.mark.parametrize("name", ["", "a..b", "a\0", 5, None])
def test_what_is_no_name_cannot_be_one(name: Any) -> None:
    with pytest.raises(TemplateError, match="not a valid SQL identifier"):
        bind("SELECT {{ x | identifier }}", x=name)


def test_loops_and_conditions_bind_each_time() -> None:
    source = "x IN ({% for v in vs %}{{ v }}{% if not loop.last %}, {% endif %}{% endfor %})"
    assert bind(source, vs=[7, 8]) == BoundSql("x IN (%(__1)s, %(__2)s)", {"__1": 7, "__2": 8})


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ('SELECT "{{ x }}"', r"\| identifier"),
        ("DO $$ BEGIN {{ x }}; END $$", "current_setting"),
        ("DO $body$ {{ x }} $body$", "current_setting"),
        ("SELECT 1; -- now\ndo LANGUAGE plpgsql 'BEGIN {{ x }}; END'", "current_setting"),
        ("CREATE FUNCTION f() RETURNS int AS $$ SELECT {{ x }} $$ LANGUAGE sql", "give the function a parameter"),
        ("create or replace procedure f() AS $b$ SELECT {{ x }} $b$ LANGUAGE sql", "give the function a parameter"),
        ("SELECT B'{{ x }}'", "a cast"),
        ("SELECT U&'{{ x }}'", "a cast"),
        ("{{ x }}", r"whole statement.*write the SQL here.*\| identifier"),
    ],
)
def test_where_no_value_can_be_bound_a_placeholder_is_refused(source: str, hint: str) -> None:
    with pytest.raises(TemplateError, match=hint):
        SqlTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "SELECT 'a', {{ x }}",
        "SELECT E'\\\\', {{ x }}",
        "SELECT 'a\\', {{ x }}",
        'SELECT "a\'b", {{ x }}',
        "SELECT 1 -- it's\n, {{ x }}",
        "SELECT /* it's */ {{ x }}",
        "SELECT $1, {{ x }}",
        "SELECT a$b$c, {{ x }}",
        "SELECT $$it's$$, {{ x }}",
    ],
)
def test_where_the_quotes_are_closed_it_is_not(source: str) -> None:
    assert "%(__1)s" in bind(source, x=1).text


@pytest.mark.parametrize(
    "source", ["{% set x %}{{ y }}{% endset %}{{ x }}", "{% filter upper %}{{ y }}{% endfilter %}"]
)
def test_no_text_is_made_of_what_is_bound(source: str) -> None:
    with pytest.raises(TemplateError, match="cannot be used here"):
        SqlTemplate("SELECT 1, " + source)


def test_the_fault_has_its_line() -> None:
    with pytest.raises(TemplateError) as caught:
        SqlTemplate('SELECT 1\n, "{{ x }}"', Place(3, 1))
    assert caught.value.line == 4


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("'{{ x }}'", "it's"),
        ("'%{{ x }}%'", "%it's%"),
        ("'100%{{ x }}'", "100%it's"),
        ("'a''{{ x }}''b'", "a'it's'b"),
        (r"E'\t{{ x }}\'\n'", "\tit's'\n"),
        ("$${{ x }}'$$", "it's'"),
        ("$t$ $$ {{ x }} $t$", " $$ it's "),
        ("'{% for i in [1, 2] %}{{ i }}{{ x }},{% endfor %}'", "1it's,2it's,"),
        ("'{{ x }}'\n  -- {{ x }}\n  '{{ x }}'", "it'sit's"),
    ],
)
def test_a_literal_with_values_is_one_bound_text(source: str, text: str) -> None:
    assert statement(bind(f"SELECT {source}, 1", x="it's")) == ("SELECT $1, 1", [text])


def test_a_placeholder_in_a_comment_goes_with_it() -> None:
    assert statement(bind("SELECT 1 -- {{ x }}\n, /* {{ x }} */ 2", x="a")) == ("SELECT 1  \n,   2", [])


@pytest.mark.parametrize(
    "separator",
    [
        '{{ ", " if not loop.last else "" }}',
        '{{ ", " if not loop.last }}',
        "{{ '' if loop.last else ', ' }}",
        "{{ '' if loop.index > 5 or loop.last else ', ' }}",
    ],
)
def test_a_separator_in_a_loop_is_no_value(separator: str) -> None:
    source = "VALUES {% for v in vs %}({{ v }}, '{{ v }}')" + separator + "{% endfor %}"
    assert statement(bind(source, vs=[7, 8])) == ("VALUES ($1, $2), ($3, $4)", [7, "7", 8, "8"])


@pytest.mark.parametrize(
    "value", ["{{ 'a' if x else 'b' }}", "{{ ',' if x else loop }}", "{{ x if loop.last else ',' }}"]
)
def test_what_is_chosen_otherwise_is_a_value(value: str) -> None:
    assert "%(__1)s" in bind("SELECT 1 {% for i in [1] %}, " + value + "{% endfor %}", x=",").text


@pytest.mark.parametrize(
    "expression",
    ["""{{ x | replace("'", "''") }}""", """{{ x.replace("'", "''") }}""", "{{ x | replace('\\'', '\\'\\'') }}"],
)
def test_quotes_need_no_doubling_and_get_none(expression: str) -> None:
    source = f"INSERT INTO t VALUES ('{expression}', E'<{expression}>', $${expression}$$, {expression})"
    assert statement(bind(source, x="it's")) == (
        "INSERT INTO t VALUES ($1, $2, $3, $4)",
        ["it's", "<it's>", "it''s", "it''s"],
    )


def test_other_replacements_are_made() -> None:
    assert statement(bind("""SELECT '{{ x | replace("'", "") }}'""", x="it's")) == ("SELECT $1", ["its"])
