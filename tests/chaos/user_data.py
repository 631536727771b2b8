"""What the playbooks find outside of the engine: a database of the users' own, and a secret."""

from __future__ import annotations

import contextlib
import secrets
from urllib.parse import urlsplit

from tests.log_rules import Finding

from noetl_serverless.hosts.local.postgres import create_database
from noetl_serverless.store.connection import Connection, connect

from .kinds import CLIENT, DATABASE
from .stack import ChaosStack

TABLE = """CREATE TABLE job (
    execution_id text, id integer, claims integer NOT NULL DEFAULT 0, PRIMARY KEY (execution_id, id))"""


class UserData:
    """In the server that the stack has its own database in; workers reach it past the wire."""

    def __init__(self, stack: ChaosStack) -> None:
        """While the stack is well."""
        self._stack = stack
        # characters that look otherwise in JSON, in a URL and in base64
        self._phrase = f"{secrets.token_hex(12)}/+?=%"
        create_database(stack.database_url, DATABASE)
        self._url = urlsplit(stack.database_url)._replace(path=f"/{DATABASE}").geturl()
        with contextlib.closing(self._connect()) as database:
            database.run(TABLE)
        parts = urlsplit(stack.database_url)
        server = {"host": parts.hostname, "port": parts.port, "user": parts.username, "password": parts.password}
        for name, kind, data in (
            (DATABASE, "postgres", {**server, "database": DATABASE}),
            (CLIENT, "oauth2", {"client_id": "chaos", "client_secret": self._phrase}),
        ):
            stack.call("POST", "/api/credentials", {"name": name, "type": kind, "data": data})

    def _connect(self) -> Connection:
        return connect(self._url)

    def claims(self) -> list[Finding]:
        """No row is claimed twice, and none is left where all were to be claimed."""
        with contextlib.closing(self._connect()) as database:
            rows = database.run("SELECT execution_id, id, claims FROM job WHERE claims <> 1") or []
        sql = "SELECT execution_id::text FROM noetl.execution WHERE status = 'COMPLETED'"
        completed = {id for (id,) in self._stack.query(sql)}
        return [
            Finding(id, "a row is claimed twice" if claims else "a row was left", f"row {row}, {claims} times")
            for id, row, claims in rows
            if claims > 1 or id in completed
        ]

    def secrets(self) -> list[Finding]:
        """The secret stands in nothing that the engine keeps, but for the sealed ones."""
        found: list[Finding] = []
        for table, text in (("event", "payload"), ("execution", "state"), ("inbox", "payload")):
            sql = f"SELECT execution_id::text FROM noetl.{table} WHERE position(:secret IN {text}::text) > 0 LIMIT 5"
            rows = self._stack.query(sql, secret=self._phrase)
            found += [Finding(id, "a secret is written down", f"noetl.{table}") for (id,) in rows]
        for folder in (self._stack.layout.results, self._stack.layout.logs):
            for path in (path for path in folder.rglob("*") if path.is_file()):
                if self._phrase.encode() in path.read_bytes():
                    found.append(Finding("", "a secret is written down", path.name))
        return found
