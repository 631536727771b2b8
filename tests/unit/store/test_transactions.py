"""The page on transactions, held against the statements."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from noetl_serverless.store.database import MAX_TRANSACTION_ATTEMPTS, SERIALIZATION_STATES
from noetl_serverless.store.migrate import migrations
from noetl_serverless.store.queries import load

STORE = files("noetl_serverless.store")
PAGE = (STORE / "TRANSACTIONS.md").read_text()
CHANGING, READING = PAGE.split("## Reads")
TOPICS = sorted(entry.name.removesuffix(".sql") for entry in (STORE / "sql").iterdir() if entry.name.endswith(".sql"))
STATEMENTS = {f"{topic}.{name}": sql for topic in TOPICS for name, sql in load(topic).items()}
NAME = re.compile(rf"`((?:{'|'.join(TOPICS)})\.\w+)`")
CHANGES = re.compile(r"\b(INSERT INTO|UPDATE noetl|DELETE FROM|FOR UPDATE|pg_advisory\w*)")
# a query that locks rows of `command`, from its last SELECT to its lock
LOCKING = re.compile(
    r"(?:[^\n]*\n\s*\) named CROSS JOIN LATERAL \(\s*)?"
    r"(?:SELECT|PERFORM)(?:(?!\bSELECT\b|\bPERFORM\b).)*FROM noetl\.command(?:(?!;).)*?FOR UPDATE[^)\n;]*",
    re.S,
)


def functions() -> dict[str, str]:
    """The functions of the migrations, each as it was last written, by its name and parameters."""
    found: dict[str, str] = {}
    for _, sql in migrations():
        for made in re.finditer(r"CREATE (?:OR REPLACE )?FUNCTION (noetl\.\w+\([^)]*\)).*?AS \$\$(.*?)\$\$", sql, re.S):
            found[" ".join(made.group(1).split())] = made.group(2)
    return found


def test_the_page_names_every_statement_and_no_other() -> None:
    assert set(NAME.findall(PAGE)) == STATEMENTS.keys()


def test_what_stands_under_reads_changes_and_locks_nothing() -> None:
    bodies = functions()
    for name in NAME.findall(READING):
        called = re.findall(r"noetl\.\w+(?=\()", STATEMENTS[name])
        texts = [STATEMENTS[name], *(body for head, body in bodies.items() if head.split("(")[0] in called)]
        assert not [text for text in texts if CHANGES.search(text)], f"{name} is no read"


def test_what_changes_something_stands_in_the_table() -> None:
    changing = {name for name, sql in STATEMENTS.items() if CHANGES.search(sql)}
    assert changing - set(NAME.findall(CHANGING)) == set()


def test_the_page_names_the_states_that_are_tried_again() -> None:
    retry = PAGE.split("## Retry")[1].split("##")[0]
    assert set(re.findall(r"\b(?:40\w{3})\b", retry)) == set(SERIALIZATION_STATES)
    assert {6: "six"}[MAX_TRANSACTION_ATTEMPTS] in retry


def _locking_queries() -> list[tuple[str, str]]:
    """By the name of their statement; of one that looks up each command by itself, with the query that names them."""
    texts = {**STATEMENTS, **functions()}
    # those of before are kept for the release before, and lock in the order of theirs
    return [(name, found.group()) for name, text in texts.items() for found in LOCKING.finditer(text)]


def test_queries_that_lock_commands_are_found() -> None:
    assert {name.split("(")[0] for name, _ in _locking_queries()} >= {
        "noetl.still_held",
        "noetl.holdings",
        "noetl.expire",
        "replay.lock_commands",
    }


@pytest.mark.parametrize(("name", "query"), _locking_queries())
def test_commands_are_locked_in_the_order_of_their_keys_or_skipped(name: str, query: str) -> None:
    if name == "replay.lock_commands" or name.startswith("noetl.advance("):
        # of one execution
        assert re.search(r"ORDER BY (c\.)?command_id FOR UPDATE", query)
        return
    one_by_one = "CROSS JOIN LATERAL" in query and "ORDER BY 1, 2" in query
    ordered = one_by_one or "ORDER BY c.execution_id, c.command_id FOR UPDATE" in query
    assert ordered or "SKIP LOCKED" in query, f"{name} locks commands in no order"
