"""kind: postgres. SQL with bound parameters, in one transaction, and fast loading of rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, WithJsonSchema

from ..playbook.template import BoundSql
from .config import ToolConfig
from .port import Credential, ToolCall, ToolContext, ToolFailure, ToolOutcome, credential_named

# to an author it is text; the templates in it make it a BoundSql by the time it gets here
Sql = Annotated[str | BoundSql, WithJsonSchema({"type": "string"})]


class PostgresConfig(ToolConfig):
    """SQL on the database that `auth` names.

    Result: {"status": "ok", "rows" (objects, of the last statement), "row_count", "columns",
    "statement_count"}. All statements run in one transaction. A template in the SQL, and `%(name)s`, is
    bound, never written into the text; values for names come from `params`, else `input`. A number or truth
    value counts as the same literal would, text as its place asks (cast it where nothing asks:
    `%(x)s::text`), an object as jsonb, a list as an array where one is wanted (`= ANY(%(ids)s)`), else as
    JSON.

    `table` with `rows` loads a list of objects with COPY, after the statements if there are any, in the same
    transaction; row_count is then the number of rows loaded.

    On the way out: numeric is an int or float if that has the very same digits, else text; times are ISO 8601
    in UTC; bytea is base64; NaN and infinity are null; intervals are ISO 8601; types that JSON lacks are
    text.
    """

    auth: str = Field(min_length=1, description="Name of a stored credential of type postgres.")
    command: Sql | None = Field(default=None, description="One or more statements.")
    query: Sql | None = Field(default=None, description="Another name for `command`.")
    commands: list[Sql] | None = Field(default=None, description="Statements, in order.")
    params: dict[str, Any] = Field(default_factory=dict, description="Values for %(name)s; they win over `input`.")
    table: str | None = Field(default=None, min_length=1, description="Where `rows` go: table or schema.table.")
    rows: list[dict[str, Any]] | None = Field(default=None, description="Objects to load into `table`.")
    columns: list[str] | None = Field(
        default=None, min_length=1, description="Which keys to load; all that occur if absent. A missing one is null."
    )
    mode: Literal["append", "replace"] = Field(default="append", description="replace empties the table first.")
    transaction: bool = Field(
        default=True, description="false: each statement on its own, for what cannot run in a transaction."
    )
    max_rows: int = Field(default=100_000, ge=1, description="More rows than this are an error.")
    max_bytes: int = Field(default=100 * 1024 * 1024, ge=1, description="Larger rows together are an error.")

    @classmethod
    def missing(cls, given: Mapping[str, Any]) -> Iterable[str]:
        for name in given:
            if name.startswith("db_") or name in ("host", "user", "password", "database", "dsn", "connection"):
                yield f"{name!r}: connections are not written into playbooks: name a stored credential in 'auth'"
            if name in ("command_b64", "script", "pool"):
                yield f"the field {name!r} is not supported yet"
        statements = [name for name in ("command", "query", "commands") if name in given]
        if len(statements) > 1:
            yield f"give one of {' and '.join(statements)}, not more"
        if ("table" in given) != ("rows" in given):
            yield "'table' and 'rows' belong together"
        if not statements and "rows" not in given:
            yield "the field 'command' is required (or 'query', 'commands', or 'table' with 'rows')"
        if "rows" not in given and ("columns" in given or "mode" in given):
            yield "'columns' and 'mode' belong to 'rows'"

    @property
    def texts(self) -> list[Sql]:
        single = self.command if self.command is not None else self.query
        return self.commands if self.commands is not None else [] if single is None else [single]


class Postgres:
    config: ClassVar[type[PostgresConfig]] = PostgresConfig

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(32, "postgres")
        self._connections: Any = None

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        from .postgres_work import Work, failure_of

        credential = Credential("", "", {})
        try:
            config = PostgresConfig.of(call)
            credential = await credential_named(context, "postgres", config.auth)
            if credential.type not in ("postgres", "postgresql"):
                message = f"postgres: credential {credential.name!r} is of type {credential.type!r}, not postgres"
                raise ToolFailure("credential", "credential.unfit", message)
            work = Work(config, call.input, credential, self._cache(), _deadline(call.timeout))
            return await self._thread(work)
        except ToolFailure as failure:
            return _masked(failure, credential)
        except Exception as error:
            return _masked(failure_of(error), credential)

    async def close(self) -> None:
        if self._connections is not None:
            await asyncio.to_thread(self._connections.close)

    def _cache(self) -> Any:
        if self._connections is None:
            from .postgres_connection import Connections

            self._connections = Connections()
        return self._connections

    async def _thread(self, work: Any) -> ToolOutcome:
        """Run in a thread; when cancelled, or much too late, stop the server and wait for the thread to
        notice."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work.run)
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # the server itself keeps the time; this is for one that does not answer
        patience = None if work.deadline is None else max(0.0, work.deadline - time.monotonic()) + 0.5
        try:
            outcome: ToolOutcome = await asyncio.wait_for(asyncio.shield(running), patience)
            return outcome
        except (TimeoutError, asyncio.CancelledError) as error:
            if running.done():
                raise
            await asyncio.shield(asyncio.to_thread(work.stop))
            await asyncio.wait((running,), timeout=2.0)
            work.abandon()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ToolFailure(
                "postgres", "postgres.timeout", "the server did not answer in time", retryable=True
            ) from None


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _masked(failure: ToolFailure, credential: Credential) -> ToolOutcome:
    extra = {"pg": failure.error.pop("pg")} if "pg" in failure.error else {}
    failure.error["message"] = credential.mask(failure.error["message"])
    return failure.outcome(extra=extra)
