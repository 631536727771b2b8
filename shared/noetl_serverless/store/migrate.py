"""Forward-only numbered migrations, each in one transaction, all under one advisory lock."""

from __future__ import annotations

import re
from importlib.resources import files

from .connection import Connection, connect

# any number will do, as long as it is always the same
LOCK_ID = 4_215_077_391
FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")


def migrate(url: str) -> list[str]:
    """Bring the database to the newest version; returns the names of the migrations that were run."""
    connection = connect(url)
    try:
        # a transaction-level lock, since a pooler may give each transaction another session
        connection.run("BEGIN")
        connection.run("SELECT pg_advisory_xact_lock(:lock)", lock=LOCK_ID)
        done = [_apply(connection, name, sql) for name, sql in _pending(connection)]
        connection.run("COMMIT")
        return done
    finally:
        connection.close()


def migrations() -> list[tuple[str, str]]:
    """(name, SQL) in order."""
    folder = files(__package__) / "migrations"
    return sorted((entry.name[:-4], entry.read_text()) for entry in folder.iterdir() if FILE.match(entry.name))


def _pending(connection: Connection) -> list[tuple[str, str]]:
    connection.run("CREATE SCHEMA IF NOT EXISTS noetl")
    connection.run(
        "CREATE TABLE IF NOT EXISTS noetl.migration (name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
    )
    known = {name for (name,) in connection.run("SELECT name FROM noetl.migration")}
    return [(name, sql) for name, sql in migrations() if name not in known]


def _apply(connection: Connection, name: str, sql: str) -> str:
    connection.run(sql)
    connection.run("INSERT INTO noetl.migration (name) VALUES (:name)", name=name)
    return name
