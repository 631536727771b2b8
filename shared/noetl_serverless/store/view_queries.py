"""SQL of operators, over the views of migrations/0008_query_views.sql.

The rights of the role that runs a query (`reader_role`) decide what it may do. The role signs in for each query: a
session that began as another role and switched to this one could switch back. Each session runs one statement, as the
query of a cursor, which PostgreSQL accepts for SELECT alone.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from pg8000.exceptions import DatabaseError, InterfaceError

from ..errors import AnswerTooLarge, InvalidRequest, Unavailable, Unsupported
from ..limits import RESULT_DEPTH
from ..playbook.sql_text import parts
from ..playbook.values import InvalidValue, stored
from .connection import JSON_OIDS, TRANSIENT_STATES, connect, reason_of, sqlstate
from .reader_role import SCHEMA, TIMEOUT_SECONDS

# as users of the original NoETL write it
SPELLED = re.compile(r"(?<![\w.$])noetl\s*\.", re.IGNORECASE)
VIEWS = ("execution", "event", "command", "catalog", "transient")
MAX_ROWS = 1000
# at once, by one process
MAX_SESSIONS = 2
# of the answer of the database, read so far
MAX_BYTES = 4 * 1024 * 1024
# seconds without a byte from the database: more than its own deadline
SOCKET_SECONDS = 2.0 * TIMEOUT_SECONDS

QUERY_CANCELED = "57014"
# what a query names is not there, or not allowed
NOT_A_VIEW = ("42501", "42P01", "3F000")
BOOLEAN_OID = 16
INTEGER_OIDS = (20, 21, 23)
FLOAT_OIDS = (700, 701)
# beyond, a JSON reader may lose digits
MAX_EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` hold what JSON has; what it has no form for is as PostgreSQL writes it."""

    columns: list[str]
    rows: list[list[Any]]
    # whether there are more rows
    truncated: bool


class ViewQueries:
    def __init__(self, url: str) -> None:
        """`url`: of the database, as the reader role; empty if it has none."""
        self._url = url
        self._permits = asyncio.Semaphore(MAX_SESSIONS)

    async def table(self, sql: str) -> Table:
        """The rows of a query, at most MAX_ROWS. Raises InvalidRequest, AnswerTooLarge, Unavailable, and Unsupported if
        this deployment has no such role."""
        if not self._url:
            raise Unsupported(
                "this deployment does not answer SQL, which takes a database role that only the embedded PostgreSQL of "
                "`noetls up` has; use GET /api/executions, GET /api/executions/{id}/events or POST /api/catalog/list"
            )
        statement = f"DECLARE asked NO SCROLL CURSOR FOR\n{_with_views(sql)}"
        if "\x00" in statement:
            raise InvalidRequest("the query contains a NUL character")
        async with self._permits:
            # not on a connection of the pool, which is for commits
            return await asyncio.to_thread(self._fetch, statement)

    def _fetch(self, statement: str) -> Table:
        connection = connect(self._url)
        try:
            connection.socket.settimeout(SOCKET_SECONDS)
            connection.pg_types = _input_functions()
            connection.run("BEGIN READ ONLY")
            connection._sock = _Bounded(connection._sock, MAX_BYTES)
            # not `run`, which would take several statements
            connection.execute_unnamed(statement)
            answer = connection.execute_unnamed(f"FETCH {MAX_ROWS + 1} FROM asked")
        except DatabaseError as error:
            raise _refusal(error) from None
        except (InterfaceError, OSError) as error:
            raise Unavailable(f"the connection to PostgreSQL was lost: {reason_of(error)}") from error
        finally:
            # at once, even if the session is in the midst of an answer: it ends when it cannot go on with that
            connection.abort()
        columns = [str(column["name"]) for column in answer.columns or ()]
        return Table(columns, answer.rows[:MAX_ROWS], truncated=len(answer.rows) > MAX_ROWS)


class _Bounded:
    """A connection's buffered socket that reads no more than `limit` bytes: one value may have a gigabyte."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self.write, self.flush, self.close = stream.write, stream.flush, stream.close

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise AnswerTooLarge(f"the rows have more than {MAX_BYTES} bytes; select fewer columns or rows")
        return bytes(self._stream.read(size))


def _with_views(sql: str) -> str:
    """The query with `noetl.event` as the view of that name. A convenience only: rights decide what may be read."""
    pieces = ((part.kind, sql[part.start : part.end]) for part in parts(sql))
    return "".join(SPELLED.sub(f"{SCHEMA}.", piece) if kind == "sql" else piece for kind, piece in pieces)


def _input_functions() -> defaultdict[int, Callable[[str], Any]]:
    """By the OID of a type: how its text becomes a value of JSON."""
    functions: defaultdict[int, Callable[[str], Any]] = defaultdict(lambda: str)
    functions[BOOLEAN_OID] = lambda text: text == "t"
    functions.update(dict.fromkeys(INTEGER_OIDS, _integer))
    functions.update(dict.fromkeys(FLOAT_OIDS, _float))
    functions.update(dict.fromkeys(JSON_OIDS, _json))
    return functions


def _integer(text: str) -> int | str:
    """Text, as every id on the wire, if a JSON reader could lose its last digits."""
    value = int(text)
    return value if abs(value) <= MAX_EXACT_INTEGER else text


def _float(text: str) -> float | str:
    """Text for infinities and NaN, which are not JSON."""
    value = float(text)
    return value if math.isfinite(value) else text


def _json(text: str) -> Any:
    """Text for what PostgreSQL takes for JSON and others do not: nested deeply, or with numbers beyond any range."""
    try:
        return stored(orjson.loads(text), levels=RESULT_DEPTH)
    except (orjson.JSONDecodeError, InvalidValue):
        return text


def _refusal(error: DatabaseError) -> Exception:
    state = sqlstate(error)
    if state in TRANSIENT_STATES:
        return Unavailable(f"PostgreSQL is not available: {reason_of(error)}")
    if state == QUERY_CANCELED:
        return InvalidRequest(f"the query ran longer than {TIMEOUT_SECONDS} seconds and was cancelled")
    known = f"; the views are {', '.join(VIEWS)}" if state in NOT_A_VIEW else ""
    return InvalidRequest(f"PostgreSQL refused the query: {reason_of(error)}{known}")
