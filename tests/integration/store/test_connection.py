from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from pg8000.exceptions import DatabaseError, InterfaceError
from tests.chaos.proxy import Proxy, Wire
from tests.eventually import eventually

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.local.postgres import Postgres
from noetl_serverless.store import async_connection
from noetl_serverless.store import database as database_module
from noetl_serverless.store.async_connection import AsyncConnection
from noetl_serverless.store.connection import Connection, connect, sqlstate
from noetl_serverless.store.database import Database

SLOW_PID = "SELECT pg_backend_pid() FROM pg_sleep(0.05)"


@pytest.fixture
def other(postgres_url: str) -> Iterator[Connection]:
    """A connection from elsewhere."""
    connection = connect(postgres_url)
    yield connection
    connection.close()


async def pid(database: Database) -> int:
    return int((await database.run("SELECT pg_backend_pid()"))[0][0])


async def test_a_connection_that_was_closed_while_it_lay_idle_is_replaced(postgres_url: str, other: Connection) -> None:
    database = Database(postgres_url, 1)
    first = await pid(database)
    other.run("SELECT pg_terminate_backend(:pid, 5000)", pid=first)
    assert await pid(database) != first
    await database.close()


async def test_a_connection_in_use_is_kept(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    assert await pid(database) == await pid(database)
    await database.close()


async def test_a_connection_that_breaks_in_the_middle_is_reported(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    with pytest.raises(Unavailable):
        await database.run("SELECT pg_terminate_backend(pg_backend_pid())")
    await database.close()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DatabaseError({"C": "40001", "M": "no"}), "40001"),
        (DatabaseError("of another shape"), None),
        (DatabaseError(), None),
        (OSError(1), None),
    ],
)
def test_an_error_has_the_state_that_the_server_gave(error: Exception, state: str | None) -> None:
    assert sqlstate(error) == state


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_json_of_either_type_is_parsed_as_orjson_does(connection: Connection, kind: str) -> None:
    """It reads integers beyond 64 bits as floats; pg8000's own parser would keep them."""
    [[value]] = connection.run(f"SELECT CAST(:text AS {kind})", text='{"n": 12345678901234567890123}')
    assert isinstance(value["n"], float), f"{kind} was read by another parser: {value}"


def test_a_connection_that_cannot_be_closed_is_given_up(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        def close(self) -> None:
            raise OSError("it does not close")

    connection = connect(postgres_url)
    used = connection.socket
    monkeypatch.setattr(connection, "_sock", Stuck())
    connection.abort()
    assert "[closed]" in repr(used), "the other end is closed all the same"


async def test_one_that_broke_is_closed(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[AsyncConnection] = []
    close = AsyncConnection.close
    monkeypatch.setattr(AsyncConnection, "close", lambda each: (closed.append(each), close(each))[1])
    database = Database(postgres_url, 1)
    with pytest.raises(Unavailable):
        await database.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert [each.broken for each in closed] == [True]
    await database.close()


async def test_one_that_nobody_waits_for_any_more_is_ended_once_it_is_there(
    postgres_url: str, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Connection] = []
    may_connect = threading.Event()

    def connect_late(url: str) -> Connection:
        may_connect.wait(30)
        made.append(connect(url))
        return made[0]

    monkeypatch.setattr(database_module, "connect", connect_late)
    database = Database(postgres_url, 1)
    asking = asyncio.ensure_future(database.run("SELECT 1"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    may_connect.set()
    sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await eventually(lambda: made and not other.run(sessions))
    await database.close()


async def test_a_request_that_cannot_be_sent_is_reported(postgres_url: str) -> None:
    ended: list[AsyncConnection] = []
    connection = connect(postgres_url)
    talk = AsyncConnection(connection, asyncio.get_running_loop(), ended.append)
    connection.socket.shutdown(socket.SHUT_WR)
    answer = talk.execute("SELECT 1", {})
    with pytest.raises(InterfaceError, match="Broken pipe"):
        await answer
    assert ended == [talk]
    assert talk.broken
    talk.close()


@pytest.fixture
def wire(postgres_server: Postgres) -> Iterator[Proxy]:
    proxy = Proxy(postgres_server.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize(("whole", "reason"), [(False, r"no answer for 0\.3 s"), (True, "timed out")])
async def test_an_answer_that_was_lost_on_the_way_is_not_waited_for_forever(
    whole: bool,
    reason: str,
    postgres_url: str,
    postgres_server: Postgres,
    wire: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(async_connection, "READ_TIMEOUT_SECONDS", 0.3)
    database = Database(postgres_url.replace(f":{postgres_server.port}/", f":{wire.port}/"), 1)

    async def ask() -> int:
        if whole:
            return await database.transaction(lambda connection: int(connection.run("SELECT 1")[0][0]))
        return int((await database.run("SELECT 1"))[0][0])

    assert await ask() == 1
    wire.become(Wire.LOSE)
    wire.settle()
    with pytest.raises(Unavailable, match=f"was lost: {reason}"):
        await ask()
    wire.become(Wire.WHOLE)
    wire.settle()
    assert await ask() == 1
    await database.close()


async def test_with_one_that_was_lost_on_the_way_go_those_that_lay_idle(
    postgres_url: str, postgres_server: Postgres, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_connection, "READ_TIMEOUT_SECONDS", 0.3)
    database = Database(postgres_url.replace(f":{postgres_server.port}/", f":{wire.port}/"), 3)
    await asyncio.gather(*(database.run(SLOW_PID) for _ in range(3)))
    wire.become(Wire.LOSE)
    wire.settle()
    with pytest.raises(Unavailable, match="no answer"):
        await database.run("SELECT 1")
    wire.become(Wire.WHOLE)
    wire.settle()
    assert await database.run("SELECT 1") == [[1]], "nobody else has to find out"
    await database.close()


async def test_an_answer_that_comes_slowly_but_comes_is_waited_for(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_connection, "READ_TIMEOUT_SECONDS", 0.6)
    database = Database(postgres_url, 1)
    await database.run("SELECT 1")
    # each row is large enough to be sent at once
    slow = "SELECT repeat('x', 20000) FROM generate_series(1, 4) n, LATERAL (SELECT pg_sleep(0.3 + 0 * n)) s"
    assert len(await database.run(slow)) == 4
    await database.close()


async def test_the_url_is_asked_for_with_each_new_connection(postgres_url: str, other: Connection) -> None:
    urls: list[str] = []

    def url() -> str:
        urls.append(postgres_url)
        return postgres_url

    database = Database(url, 1)
    first = await pid(database)
    await pid(database)
    assert len(urls) == 1
    other.run("SELECT pg_terminate_backend(:pid, 5000)", pid=first)
    await pid(database)
    assert len(urls) == 2
    await database.close()


async def test_the_connection_used_last_is_taken_first(postgres_url: str) -> None:
    database = Database(postgres_url, 4)
    opened = {row[0][0] for row in await asyncio.gather(*(database.run(SLOW_PID) for _ in range(4)))}
    assert len(opened) == 4
    assert len({await pid(database) for _ in range(8)}) == 1
    await database.close()


async def test_no_more_connections_are_made_than_allowed(postgres_url: str) -> None:
    database = Database(postgres_url, 2)
    answers = await asyncio.gather(*(database.run(SLOW_PID) for _ in range(6)))
    assert len({rows[0][0] for rows in answers}) == 2
    await database.close()


async def test_whoever_stops_waiting_gets_nobody_elses_answer(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    first = await pid(database)
    asking = asyncio.ensure_future(database.run("SELECT 'first' FROM pg_sleep(:seconds)", seconds=0.05))
    await asyncio.sleep(0)
    asking.cancel()
    assert await database.run("SELECT 'second' WHERE :yes", yes=True) == [["second"]]
    assert await pid(database) == first
    await database.close()


async def test_a_statement_that_nobody_waits_for_is_carried_out(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    await database.run("CREATE TABLE public.kept (n integer)")
    adding = asyncio.ensure_future(
        database.run("INSERT INTO public.kept SELECT 1 FROM pg_sleep(:seconds)", seconds=0.05)
    )
    await asyncio.sleep(0)
    adding.cancel()
    assert await database.run("SELECT n FROM public.kept") == [[1]]
    await database.run("DROP TABLE public.kept")
    await database.close()


async def test_a_refused_statement_leaves_the_connection_fit(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    first = await pid(database)
    with pytest.raises(DatabaseError):
        await database.run("SELECT 1 / :zero", zero=0)
    with pytest.raises(InterfaceError):
        await database.run("SELECT :missing", other=1)
    assert await pid(database) == first
    await database.close()


async def test_large_statements_and_answers_pass_whole(postgres_url: str) -> None:
    database = Database(postgres_url, 2)
    text = "0123456789abcdef" * 500_000
    echo = database.run("SELECT CAST(:text AS text)", text=text)
    rows = database.run("SELECT n, repeat('x', 100) FROM generate_series(1, CAST(:last AS integer)) n", last=50_000)
    assert await echo == [[text]]
    assert [row[0] for row in await rows] == list(range(1, 50_001))
    await database.close()


async def test_a_transaction_and_a_statement_use_the_same_connection_in_turn(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    within, after = await asyncio.gather(
        database.transaction(lambda connection: connection.run("SELECT pg_backend_pid()")), pid(database)
    )
    assert within[0][0] == after
    with pytest.raises(ZeroDivisionError):
        await database.transaction(lambda connection: 1 / 0)
    assert await pid(database) == after
    await database.close()


async def test_a_transaction_whose_python_raises_leaves_nothing(postgres_url: str, other: Connection) -> None:
    database = Database(postgres_url, 1)
    await database.run("CREATE TABLE public.kept (n integer)")

    def work(connection: Connection) -> None:
        connection.run("INSERT INTO public.kept VALUES (1)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transaction(work)
    assert other.run("SELECT n FROM public.kept") == []
    # nor is the connection still in it
    await database.run("INSERT INTO public.kept VALUES (2)")
    assert other.run("SELECT n FROM public.kept") == [[2]]
    await database.close()


async def test_closing_waits_for_what_is_under_way(postgres_url: str) -> None:
    database = Database(postgres_url, 2)
    await pid(database)
    under_way = asyncio.ensure_future(database.run("SELECT 1 FROM pg_sleep(:seconds)", seconds=0.05))
    await asyncio.sleep(0)
    await database.close()
    assert await under_way == [[1]]
    with pytest.raises(Unavailable):
        await database.run("SELECT 1")


def test_another_event_loop_gets_connections_of_its_own(postgres_url: str) -> None:
    database = Database(postgres_url, 1)
    first = asyncio.run(pid(database))
    assert asyncio.run(pid(database)) != first
    asyncio.run(database.close())


def test_a_statement_that_cannot_be_sent_is_reported_like_any_broken_connection(postgres_url: str) -> None:
    connection = connect(postgres_url)
    connection.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(InterfaceError, match="network error") as caught:
        connection.run("SELECT 1")
    assert isinstance(caught.value.__cause__, OSError)
    connection.abort()


def test_a_connection_that_is_closed_may_be_closed_again(postgres_url: str) -> None:
    connection = connect(postgres_url)
    connection.quit()
    with pytest.raises(InterfaceError):
        connection.close()
    connection.quit()


def test_a_statement_may_take_longer_than_connecting_may(postgres_url: str) -> None:
    connection = connect(postgres_url, timeout=0.5)
    assert connection.run("SELECT 1 FROM pg_sleep(1)") == [[1]]
    connection.quit()
