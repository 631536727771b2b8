"""The config of a task of kind duckdb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import ConfigDict, Field, InstanceOf, WithJsonSchema, field_validator

from ..playbook.scripts import Script
from ..playbook.template import BoundSql
from .config import NOT_SUPPORTED, Refusal, ToolConfig

# to an author it is text; if it has templates, it is a BoundSql by the time it gets here
Sql = Annotated[str | InstanceOf[BoundSql], WithJsonSchema({"type": "string"})]


class DuckDBConfig(ToolConfig):
    """SQL run by DuckDB.

    Result: {"status": "ok", "rows" (objects, of the last statement), "row_count", "columns",
    "statement_count"}.

    Each list of objects and each table in `input` is a table of that name, and so is the result of a task that has one
    as its rows; every other value of `input`, and of `params`, can be bound as `$name` or `%(name)s`. Templates in the
    SQL are bound too.

    Rows of more than 64 KiB of JSON go as a table: typed, in a file, and as many as there is room for.

    The database is empty, in memory and private to this call, unless `database` names a file. That file is in a folder
    of this execution in this worker's process: it lasts from task to task of one step, but at most an hour, or until
    others take more than 1 GiB, and must not be relied on between steps. SQL reads and writes other files of that
    folder as `getvariable('folder') || '/x.csv'`; files elsewhere, the network and extensions cannot be accessed.

    In the result, decimals are an int or float if that has exactly the same digits, else text; times are ISO
    8601; blobs are base64; NaN and infinity are null.
    """

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in ("command", "query", "script", "commands")]}
    )

    command: Sql | None = Field(default=None, description="One or more statements.")
    query: Sql | None = Field(default=None, description="Another name for `command`.")
    script: Sql | Script | None = Field(
        default=None, description="Another name for `command`, or where the statements are kept."
    )
    commands: list[Sql] | Sql | None = Field(default=None, description="Statements, in order, or a text of them.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Values for $name; they take precedence over `input`."
    )
    database: str | None = Field(
        default=None, min_length=1, description="Database file in the folder of the execution; by default, in memory."
    )
    memory_mb: int = Field(
        default=1024, ge=64, le=65536, description="Memory limit; beyond it, DuckDB spills to disk or fails."
    )
    threads: int = Field(default=2, ge=1, le=64, description="Maximum number of threads of one query.")
    max_rows: int | None = Field(
        default=None, ge=1, description="Maximum number of rows; more rows are an error. By default there is none."
    )

    @classmethod
    def missing(cls, config: Mapping[str, Any]) -> Iterable[str]:
        statements = [name for name in ("command", "query", "script", "commands") if name in config]
        if len(statements) > 1:
            yield f"give only one of {' and '.join(statements)}"
        if not statements:
            yield "the field 'command' is required (or 'query', 'script' or 'commands')"

    @classmethod
    def refusal(cls, name: str) -> Refusal | None:
        if name not in ("auth", "credentials"):
            return None
        later = "attaching other databases is not supported yet; read with kind postgres and pass the rows as input"
        return Refusal(f"{name!r}: {later}", NOT_SUPPORTED)

    @field_validator("database")
    @classmethod
    def _inside(cls, path: str | None) -> str | None:
        if path == ":memory:":
            return None
        if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or ":" in path):
            raise ValueError("the file must be a relative path without '..', in the folder of the execution")
        return path

    @property
    def texts(self) -> list[Sql]:
        if self.commands is not None:
            return self.commands if isinstance(self.commands, list) else [self.commands]
        # a script that is kept elsewhere has become the command
        return [text for text in (self.command, self.query, self.script) if isinstance(text, str | BoundSql)]
