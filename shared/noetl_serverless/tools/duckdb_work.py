"""One duckdb task, to be run in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow

from ..playbook.template import BoundSql
from ..tables.collect import collect
from ..tables.listed import TableTooLarge, listed
from ..tables.sealed import NewFiles
from .duckdb_casts import in_arrow
from .duckdb_config import DuckDBConfig
from .duckdb_errors import message_of
from .duckdb_rows import Batches, from_python, from_relation, from_result
from .duckdb_tables import register, tables_in
from .encoding import NotJson
from .port import ToolFailure, ToolOutcome
from .sql import SqlError, Statement, named, statements, unique, without_placeholders

# the type of a relation that has not run; of a query that changes something, such as a sequence, the rows are there
_READS: Final = "QUERY_RELATION"
# held while a database is opened and confined, so that no other task runs SQL in it before
_opening = threading.Lock()


class Work:
    """`run` in a thread; `interrupt` from another."""

    def __init__(
        self,
        config: DuckDBConfig,
        input: Mapping[str, Any],
        folder: AbstractContextManager[Path],
        files: NewFiles,
        inline_bytes: int,
    ) -> None:
        """`folder`: entered while the task runs; `files` and `inline_bytes`: see `ToolContext`."""
        self._config = config
        self._tables = tables_in(input, (text.text if isinstance(text, BoundSql) else text for text in config.texts))
        is_table = {name for name in self._tables if not isinstance(input[name], Mapping)}
        self._values_given = {name: value for name, value in input.items() if name not in self._tables}
        self._params = {**{name: value for name, value in input.items() if name not in is_table}, **config.params}
        self._folder = folder
        self._files = files
        self._inline_bytes = inline_bytes
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        if self._connection is not None:
            self._connection.interrupt()

    def run(self) -> ToolOutcome:
        try:
            return ToolOutcome("ok", data=self._all())
        except (SqlError, NotJson, TableTooLarge) as error:
            raise ToolFailure("duckdb", "duckdb.sql", str(error)) from None
        except duckdb.InterruptException:
            raise ToolFailure("duckdb", "duckdb.timeout", "interrupted", retryable=True) from None
        except duckdb.OutOfMemoryException as error:
            raise ToolFailure("duckdb", "duckdb.memory", str(error)) from None
        except duckdb.PermissionException as error:
            raise ToolFailure("duckdb", "duckdb.refused", str(error)) from None
        except OSError as error:
            raise ToolFailure("duckdb", "duckdb.files", str(error), retryable=True) from None
        except duckdb.Error as error:
            raise ToolFailure("duckdb", "duckdb.error", message_of(error, self._values_given)) from None

    def _all(self) -> dict[str, Any]:
        queries = self._statements()
        with self._folder as folder, self._open(folder) as connection:
            self._connection = connection
            try:
                for name, rows in self._tables.items():
                    register(connection, name, rows)
                connection.execute("SET VARIABLE folder = $folder", {"folder": str(folder)})
                parts = [(query, part) for query in queries for part in connection.extract_statements(query.text)]
                if not parts:
                    raise SqlError("there is no statement")
                for query, part in parts[:-1]:
                    self._check()
                    connection.execute(part, self._values(part.named_parameters, query) or None)
                    # of a query, more than the first rows: it may fail later, and until then no other can run
                    connection.complete()
                self._check()
                query, part = parts[-1]
                return self._result(connection, part, self._values(part.named_parameters, query) or None, len(parts))
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
            values[name] = listed(statement.values.get(name, self._params.get(name)))
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
            self._confine(connection, folder, is_new=path == ":memory:")
        return connection

    def _confine(self, connection: duckdb.DuckDBPyConnection, folder: Path, *, is_new: bool) -> None:
        # a file that another task has open is the same database in this process, which is confined already
        if not is_new:
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

    def _result(
        self, connection: duckdb.DuckDBPyConnection, part: duckdb.Statement, values: dict[str, Any] | None, count: int
    ) -> dict[str, Any]:
        """Run the last statement; `count`: of all."""
        expected = part.expected_result_type
        if part.type == duckdb.StatementType.SELECT:
            # the rows of a relation come as they are read, while those of `execute` are copied before
            relation = connection.sql(part, params=values)
            names = unique(list(map(without_placeholders, relation.columns)))
            if (found := from_relation(relation, names)) is not None:
                return self._collected(found, count)
            if relation.type != _READS:
                # it has run, and must not run again
                rows = relation.iter_rows()
                return self._collected(from_python(lambda size: list(islice(rows, size)), names, relation.types), count)
        result = connection.execute(part, values)
        names = unique([without_placeholders(column[0]) for column in result.description or ()])
        if duckdb.ExpectedResultType.CHANGED_ROWS in expected and names == ["Count"]:
            row = result.fetchone()
            return _data([], row[0] if row else 0, [], count)
        if duckdb.ExpectedResultType.QUERY_RESULT not in expected or not names:
            return _data([], 0, [], count)
        kinds = [column[1] for column in result.description or ()]
        if all(map(in_arrow, kinds)):
            return self._collected(from_result(result, names), count)
        return self._collected(from_python(result.fetchmany, names, kinds), count)

    def _collected(self, result: Batches, count: int) -> dict[str, Any]:
        names = result.schema.names
        data = collect(
            result.schema,
            self._counted(result.batches),
            self._files,
            inline_bytes=self._inline_bytes,
            field="rows",
            rest=lambda rows: _data(None, rows, names, count),
        )
        return _data(data["rows"], data["row_count"], names, count)

    def _counted(self, batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        """Raises ToolFailure if there are more rows than the task may have."""
        rows, limit = 0, self._config.max_rows
        for batch in batches:
            self._check()
            rows += batch.num_rows
            if limit is not None and rows > limit:
                message = f"there are more than {limit} rows; narrow the query, or raise max_rows"
                raise ToolFailure("duckdb", "duckdb.too_many_rows", message)
            yield batch


def _data(rows: Any, row_count: int, columns: list[str], statements: int) -> dict[str, Any]:
    return {"status": "ok", "rows": rows, "row_count": row_count, "columns": columns, "statement_count": statements}
