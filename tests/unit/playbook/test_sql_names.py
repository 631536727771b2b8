from __future__ import annotations

import pytest

from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.sql_names import unnamed
from noetl_serverless.playbook.template import SqlTemplate

from .playbooks import playbook, tool


def words(sql: str) -> list[str]:
    return [word for _, word in unnamed(SqlTemplate(sql))]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM {{ t }}", ["FROM"]),
        ("select * from\n  {{ t }} a join {{ u }} b using (id)", ["FROM", "JOIN"]),
        ("SELECT * FROM public.{{ t }}", ["FROM"]),
        ("INSERT INTO {{ t }} VALUES ({{ x }})", ["INTO"]),
        ("UPDATE {{ t }} SET a = {{ x }}", ["UPDATE"]),
        ("UPDATE ONLY {{ t }} SET a = 1", ["UPDATE"]),
        ("CREATE TABLE IF NOT EXISTS {{ t }} (a int)", ["TABLE"]),
        ("DROP TABLE IF EXISTS {{ t }}", ["TABLE"]),
        ("SELECT 1; DELETE FROM /* which */ {{ t }}", ["FROM"]),
        ("SELECT extract(epoch FROM a) FROM {{ t }}", ["FROM"]),
        ("SELECT (SELECT max(a) FROM {{ t }})", ["FROM"]),
    ],
)
def test_a_value_where_only_the_name_of_a_table_can_stand_is_found(sql: str, expected: list[str]) -> None:
    assert words(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {{ t | identifier }} WHERE a = {{ x }}",
        "SELECT * FROM public.{{ t | lower | identifier }}",
        "SELECT extract(epoch FROM {{ x }}), trim(both 'x' FROM {{ x }}), substring({{ x }} FROM {{ n }})",
        "SELECT a IS DISTINCT FROM {{ x }} AND b IS NOT DISTINCT FROM {{ x }}",
        "SELECT * FROM f({{ x }})",
        "SELECT * FROM (SELECT {{ x }}) a",
        "SELECT a FROM t WHERE b = 'FROM {{ x }}'",
        "SELECT a -- FROM\n, {{ x }}",
        "SELECT valid_from {{ x }}",
        "COPY t FROM {{ x }}",
        "SELECT 1",
    ],
)
def test_a_value_where_one_can_be_bound_is_not(sql: str) -> None:
    assert words(sql) == []


def test_lint_says_where_and_what_to_write_also_for_the_claim_of_a_cursor() -> None:
    text = tool("kind: postgres\nauth: db\ncommand: |\n  SELECT *\n  FROM {{ workload.t }}\n")
    [finding] = [finding for finding in lint(text) if finding.code == "playbook.not_rendered"]
    assert (finding.line, finding.severity) == (11, "warning")
    assert finding.message.startswith("no value can be bound after FROM: write {{ ... | identifier }}")
    cursor = "{kind: postgres, auth: db, claim: 'UPDATE {{ workload.t }} SET a = 1 RETURNING a'}"
    loop = f"{{cursor: {cursor}, iterator: x, spec: {{mode: cursor}}}}"
    text = playbook(f"workload: {{t: t}}\nworkflow:\n  - {{step: a, loop: {loop}, tool: {{kind: noop}}}}\n")
    assert [finding.message.partition(":")[0] for finding in lint(text)] == ["no value can be bound after UPDATE"]
