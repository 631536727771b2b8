"""The config of a task of kind postgres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, InstanceOf, ValidatorFunctionWrapHandler, WithJsonSchema, WrapValidator

from ..limits import MIB
from ..playbook.scripts import Script
from ..playbook.template import BoundSql
from ..tables.table import Table
from .config import NOT_SUPPORTED, Refusal, ToolConfig
from .postgres_limits import Limits
from .postgres_pool import PostgresPool

# to an author it is text; if it has templates, it is a BoundSql by the time it gets here
Sql = Annotated[str | InstanceOf[BoundSql], WithJsonSchema({"type": "string"})]

# settings that belong in a credential, as do all that begin with db_
_CONNECTION: Final = frozenset({"host", "user", "password", "database", "dsn", "connection"})
# by default
_LISTED_ROWS: Final = 100_000
_LISTED_BYTES: Final = 100 * MIB


def _rows(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, Table):
        return value
    if isinstance(value, Mapping):
        field = next((name for name, found in value.items() if isinstance(found, list | Table)), None)
        hint = "" if field is None else f"; give {field!r:.200} of it: {{{{ step.{field:.200} }}}}"
        raise ValueError(f"this should be a list of objects, or a table, and is an object{hint}")
    return validate(value)


class PostgresConfig(ToolConfig):
    """SQL on the database that `auth` names.

    Result: {"status": "ok", "rows" (objects, of the last statement), "row_count", "columns",
    "statement_count"}. All statements run in one transaction. A template in the SQL, and `%(name)s`, is
    bound, never written into the text; values for names come from `params`, else `input`. A number or boolean
    has the type of the same literal, text the type that its place requires (cast it where there is none:
    `%(x)s::text`), an object is jsonb, a list is an array where one is required (`= ANY(%(ids)s)`), else
    JSON. Inside a literal (`'%{{ x }}%'`) the value makes the whole literal a bound text.

    `table` with `rows` loads a list of objects, or a table of any size, with COPY, after the statements if there are
    any, in the same transaction; row_count is then the number of rows loaded. Texts for a column of bytea are
    base64, or hex after \\x.

    Rows of more than 64 KiB of JSON go as a table: typed, in a file, and as many as there is room for, where the worker
    has pyarrow; without it, and with `each_statement`, they are a list.

    In the result, numeric is an int or float if that has exactly the same digits, else text; times are ISO 8601
    in UTC; bytea is base64; NaN and infinity are null; intervals are ISO 8601; types that JSON lacks are
    text.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name]} for name in ("command", "query", "script", "commands", "rows")],
            "dependentRequired": {"table": ["rows"], "rows": ["table"], "columns": ["rows"], "mode": ["rows"]},
        }
    )

    auth: str = Field(min_length=1, description="Name of a stored credential of type postgres.")
    command: Sql | None = Field(default=None, description="One or more statements.")
    query: Sql | None = Field(default=None, description="Another name for `command`.")
    script: Sql | Script | None = Field(
        default=None, description="Another name for `command`, or where the statements are kept."
    )
    commands: list[Sql] | Sql | None = Field(default=None, description="Statements, in order, or a text of them.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Values for %(name)s; they take precedence over `input`."
    )
    table: str | None = Field(
        default=None, min_length=1, description="Table to load `rows` into: table or schema.table."
    )
    rows: Annotated[list[dict[str, Any]], WrapValidator(_rows)] | None = Field(
        default=None, description="Objects, or a table, to load into `table`."
    )
    columns: list[str] | None = Field(
        default=None, min_length=1, description="Keys to load; by default, all that occur. A missing key becomes null."
    )
    mode: Literal["append", "replace"] = Field(default="append", description="replace empties the table first.")
    transaction: bool = Field(
        default=True, description="If false, run each statement on its own, for those that cannot run in a transaction."
    )
    each_statement: bool = Field(
        default=False,
        description=(
            'Whether the result also has what each statement gave, as command_0, command_1, ...: {"rows", "row_count", '
            '"columns"}. max_bytes is then for all of them together.'
        ),
    )
    pool: PostgresPool | None = Field(default=None, description="Limits the connections that are used at once.")
    max_rows: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Maximum number of rows; more rows are an error. By default there is none for a table, and 100000 for a "
            "list of rows."
        ),
    )
    max_bytes: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Maximum size of all rows; a larger result is an error. By default there is none for a table, and 100 MiB "
            "for a list of rows."
        ),
    )

    @classmethod
    def missing(cls, config: Mapping[str, Any]) -> Iterable[str]:
        # of the last one, `refusal` says that it is not supported
        statements = [name for name in ("command", "query", "script", "commands", "command_b64") if name in config]
        if len(statements) > 1:
            yield f"give only one of {' and '.join(statements)}"
        if ("table" in config) != ("rows" in config):
            yield "'table' and 'rows' require each other"
        if not statements and "rows" not in config:
            yield "the field 'command' is required (or 'query', 'script', 'commands', or 'table' with 'rows')"
        if "rows" not in config and ("columns" in config or "mode" in config):
            yield "'columns' and 'mode' require 'rows'"

    @classmethod
    def refusal(cls, name: str) -> Refusal | None:
        if name == "command_b64":
            return Refusal(f"the field {name!r} is not supported yet", NOT_SUPPORTED)
        if name.startswith("db_") or name in _CONNECTION:
            return Refusal(
                f"{name!r}: connection settings are not allowed in playbooks; name a stored credential in 'auth'"
            )
        return None

    @property
    def list_limits(self) -> Limits:
        """Of rows that are a list, which are in memory as a whole."""
        return Limits(self.max_rows or _LISTED_ROWS, self.max_bytes or _LISTED_BYTES)

    @property
    def texts(self) -> list[Sql]:
        if self.commands is not None:
            return self.commands if isinstance(self.commands, list) else [self.commands]
        # a script that is kept elsewhere has become the command
        return [text for text in (self.command, self.query, self.script) if isinstance(text, str | BoundSql)]
