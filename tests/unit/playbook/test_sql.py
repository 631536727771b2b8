from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.template import BoundSql, Place, SqlTemplate, TemplateError


def bind(source: str, **names: Any) -> BoundSql:
    return SqlTemplate(source, Place(3, 1)).render(names)


def test_each_expression_becomes_a_bound_value() -> None:
    sql = bind("SELECT {{ a }} FROM t WHERE x = {{ b.c | upper }} AND d = %(mine)s", a=[1], b={"c": "it's"})
    assert sql.text == "SELECT %(__1)s FROM t WHERE x = %(__2)s AND d = %(mine)s"
    assert sql.values == {"__1": [1], "__2": "IT'S"}


def test_text_without_placeholders_stays_as_it_is() -> None:
    assert bind("SELECT '{a}' LIKE 'a%'") == BoundSql("SELECT '{a}' LIKE 'a%'", {})


def test_a_quoted_name_is_the_only_text_put_in() -> None:
    assert bind('SELECT * FROM {{ "s.t" | identifier }}').text == 'SELECT * FROM "s"."t"'
    assert bind("SELECT {{ x | identifier }}", x='a"; DROP').text == 'SELECT "a""; DROP"'
    sql = bind("SELECT {{ (x | identifier) ~ '; DROP TABLE t' }}", x="a")
    assert sql.text == "SELECT %(__1)s"


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
        ("SELECT '{{ x }}'", "remove the quotes"),
        ("SELECT 'it''s {{ x }}'", "remove the quotes"),
        ("SELECT E'\\'{{ x }}'", "remove the quotes"),
        ("SELECT 'a' || 'b{{ x }}'", "remove the quotes"),
        ('SELECT "{{ x }}"', "identifier"),
        ("SELECT 1 -- {{ x }}\n", "a comment"),
        ("SELECT /* /* */ {{ x }} */ 1", "a comment"),
        ("DO $$ BEGIN {{ x }}; END $$", "dollar quotes"),
        ("DO $body$ {{ x }} $body$", "dollar quotes"),
        ("{{ x }}", "whole statement"),
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
        SqlTemplate("SELECT 1\n, '{{ x }}'", Place(3, 1))
    assert caught.value.line == 4
