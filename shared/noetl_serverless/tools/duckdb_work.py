"""One duckdb task, to be run in a thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb

from ..playbook.template import BoundSql
from ..tables.from_rows import is_rows, table_of
from ..tables.values import plain_value
from .duckdb_config import DuckDBConfig
from .encoding import NotJson
from .port import ToolFailure, ToolOutcome
from .sql import SqlError, Statement, name_needed, named, statements, unique, without_placeholders

# held while a database is opened and confined, so that no other task runs SQL in it before
_opening = threading.Lock()


class Work:
    """`run` in a thread; `interrupt` from another."""

    def __init__(self, config: DuckDBConfig, input: Mapping[str, Any], folder: AbstractContextManager[Path]) -> None:
        """`folder`: entered while the task runs."""
        self._config = config
        self._tables = {name: rows for name, rows in input.items() if is_rows(rows)}
        self._params = {**{name: value for name, value in input.items() if name not in self._tables}, **config.params}
        self._folder = folder
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        if self._connection is not None:
            self._connection.interrupt()

    def run(self) -> ToolOutcome:
        try:
            return ToolOutcome("ok", data=self._all())
        except (SqlError, NotJson) as error:
            raise ToolFailure("duckdb", "duckdb.sql", str(error)) from None
        except duckdb.InterruptException:
            raise ToolFailure("duckdb", "duckdb.timeout", "interrupted", retryable=True) from None
        except duckdb.OutOfMemoryException as error:
            raise ToolFailure("duckdb", "duckdb.memory", str(error)) from None
        except duckdb.PermissionException as error:
            raise ToolFailure("duckdb", "duckdb.refused", str(error)) from None
        except OSError as error:
            raise ToolFailure("duckdb", "duckdb.files", str(error), retryable=True) from None
        except duckdb.ParserException as error:
            first, break_, statement = str(error).partition("\n")
            raise ToolFailure("duckdb", "duckdb.error", f"{first}{name_needed(first)}{break_}{statement}") from None
        except duckdb.Error as error:
            raise ToolFailure("duckdb", "duckdb.error", str(error)) from None

    def _all(self) -> dict[str, Any]:
        queries = self._statements()
        with self._folder as folder, self._open(folder) as connection:
            self._connection = connection
            try:
                for name, rows in self._tables.items():
                    connection.register(name, table_of(rows))
                connection.execute("SET VARIABLE folder = $folder", {"folder": str(folder)})
                count, result, part = 0, None, None
                for statement in queries:
                    for part in connection.extract_statements(statement.text):
                        self._check()
                        values = self._values(part.named_parameters, statement)
                        result = connection.execute(part, values or None)
                        count += 1
                if result is None or part is None:
                    raise SqlError("there is no statement")
                return {"status": "ok", **self._result(result, part), "statement_count": count}
            finally:
                self._connection = None

    def _check(self) -> None:
        if self._interrupted:
            raise duckdb.InterruptException("interrupted")

    def _statements(self) -> list[Statement]:
        found: list[Statement] = []
        for text in self._config.texts:
            if isinstance(text, BoundSql):
                found += statements(text.text, {**self._params, **text.values}, named)
            else:
                found += statements(text, self._params, named)
        return found

    def _values(self, names: set[str], statement: Statement) -> dict[str, Any]:
        values = {}
        for name in names:
            if name not in statement.values and name not in self._params:
                known = ", ".join(sorted(self._params)) or "none"
                raise SqlError(f"no value for the parameter ${name}; given parameters: {known}")
            values[name] = statement.values.get(name, self._params.get(name))
        return values

    def _open(self, folder: Path) -> duckdb.DuckDBPyConnection:
        """A database that can access its own folder and nothing else."""
        path = ":memory:"
        if self._config.database is not None:
            file = folder / self._config.database
            file.parent.mkdir(parents=True, exist_ok=True)
            path = str(file)
        with _opening:
            try:
                connection = duckdb.connect(path, config=self._settings(folder))
            except duckdb.ConnectionException as error:
                raise ToolFailure("duckdb", "duckdb.busy", str(error), retryable=True) from None
            self._confine(connection, folder)
        return connection

    def _confine(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        # a file that another task has open is the same database in this process, which is confined already
        locked = connection.execute("SELECT current_setting('lock_configuration')").fetchone()
        if locked and locked[0]:
            return
        allowed = str(folder).replace("'", "''")
        connection.execute(f"SET allowed_directories = ['{allowed}/']")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def _settings(self, folder: Path) -> dict[str, Any]:
        return {
            "temp_directory": str(folder / ".spill"),
            "memory_limit": f"{self._config.memory_mb}MB",
            "threads": self._config.threads,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "allow_persistent_secrets": False,
        }

    def _result(self, result: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> dict[str, Any]:
        names = unique([without_placeholders(column[0]) for column in result.description or ()])
        kinds = statement.expected_result_type
        if duckdb.ExpectedResultType.CHANGED_ROWS in kinds and names == ["Count"]:
            row = result.fetchone()
            return {"rows": [], "row_count": row[0] if row else 0, "columns": []}
        if duckdb.ExpectedResultType.QUERY_RESULT not in kinds:
            names = []
        found = result.fetchmany(self._config.max_rows + 1) if names else []
        if len(found) > self._config.max_rows:
            message = f"there are more than {self._config.max_rows} rows; narrow the query, or raise max_rows"
            raise ToolFailure("duckdb", "duckdb.too_many_rows", message)
        rows = [dict(zip(names, map(plain_value, row), strict=True)) for row in found]
        return {"rows": rows, "row_count": len(rows), "columns": names}
