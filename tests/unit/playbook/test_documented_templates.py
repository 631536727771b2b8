"""The tables of playbooks/README.md about templates and SQL say what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.playbook.sandbox import TEXT
from noetl_serverless.playbook.template import SqlTemplate, Template, TemplateError
from noetl_serverless.tools.sql import numbered, statements

PAGE = (Path(__file__).parents[3] / "playbooks" / "README.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip(" ").replace("\\|", "|") for cell in row] for row in cells]


TEMPLATES = section("Templates")
WORKLOAD: dict[str, Any] = json.loads(re.findall(r"^`({.*})`:$", TEMPLATES, re.MULTILINE)[0])


@pytest.mark.parametrize(("template", "value"), [(row[0], row[1]) for row in rows(TEMPLATES)])
def test_a_template_gives_what_the_page_says(template: str, value: str) -> None:
    assert Template(template.strip("`")).render(WORKLOAD) == json.loads(value.strip("`"))


def test_there_are_as_many_as_the_page_has() -> None:
    assert len(rows(TEMPLATES)) >= 15


@pytest.mark.parametrize("name", ["random", "pprint", "urlize", "xmlattr", "striptags"])
def test_the_filters_that_are_left_out_do_not_exist(name: str) -> None:
    assert f"`{name}`" in TEMPLATES
    assert name not in TEXT.filters


@pytest.mark.parametrize("name", re.findall(r"besides, (.*?)\. Functions", TEMPLATES, re.DOTALL)[0].split("`")[1::2])
def test_the_filters_that_are_added_exist(name: str) -> None:
    assert name in TEXT.filters


@pytest.mark.parametrize(
    ("sql", "expected", "values"),
    [
        ("WHERE id = {{ n }}", "WHERE id = $1", [5]),
        ("WHERE city = '{{ city }}'", "WHERE city = $1", ["Oslo"]),
        ("WHERE city LIKE '%{{ city }}%'", "WHERE city LIKE $1", ["%Oslo%"]),
        ("E'a\\t{{ city }}'", "$1", ["a\tOslo"]),
        ("$${{ city }}$$", "$1", ["Oslo"]),
        ("FROM {{ table | identifier }}", 'FROM "public"."t"', []),
        ("'{{ none }}'", "$1", [None]),
        ("'{{ day }}'::date", "$1::date", ["2024-01-01"]),
        ("INTERVAL '{{ n }} days'", "CAST($1 AS INTERVAL)", ["5 days"]),
        ("INTERVAL '{{ n }}' DAY", "CAST($1 AS INTERVAL)", ["5 DAY"]),
        ("DATE '{{ day }}'", "CAST($1 AS DATE)", ["2024-01-01"]),
    ],
)
def test_sql_binds_what_the_page_says(sql: str, expected: str, values: list[Any]) -> None:
    assert sql.replace("|", "\\|") in section("Values in SQL"), "the page does not have it"
    bound = SqlTemplate(f"SELECT 1 {sql}").render({**WORKLOAD, "table": "public.t", "day": "2024-01-01"})
    (found,) = statements(bound.text, bound.values, numbered)
    assert (found.text, list(found.values.values())) == (f"SELECT 1 {expected}", values)


def test_a_whole_statement_from_a_template_is_refused_as_the_page_says() -> None:
    assert '`command: "{{ workload.sql }}"`' in section("Values in SQL")
    with pytest.raises(TemplateError, match="write the SQL here"):
        SqlTemplate("{{ workload.sql }}")
