"""What triggers listen to: streams of a real NATS, and folders."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import RetentionPolicy, StreamConfig

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats_messages import NatsMessages
from noetl_serverless.errors import Forbidden, NotFound, Problem
from noetl_serverless.reconciler import sources
from noetl_serverless.reconciler.sources import FolderSource, NatsSource
from noetl_serverless.reconciler.triggers import SourceEvents
from noetl_serverless.store.triggers import PolledTrigger, Trigger


def polled(source: str, position: dict[str, Any] | None = None, **config: Any) -> PolledTrigger:
    return PolledTrigger(
        trigger_id=7,
        path="a",
        name="t",
        version=1,
        kind="message",
        source=source,
        config=config,
        position=position or {},
        updated_at=datetime.now(UTC) - timedelta(seconds=30),
    )


@dataclass
class Known:
    """The triggers that a source can find."""

    triggers: list[Trigger] = field(default_factory=list)

    async def by_ids(self, trigger_ids: Sequence[int]) -> list[Trigger]:
        return [trigger for trigger in self.triggers if trigger.trigger_id in trigger_ids]


def stored(trigger: PolledTrigger, *, enabled: bool = True, declared: bool = True) -> Trigger:
    own = {name: value for name, value in asdict(trigger).items() if name not in ("position", "error")}
    return Trigger(**own, enabled=enabled, declared=declared, error=None, created_at=trigger.updated_at)


def events(found: SourceEvents) -> list[dict[str, Any]]:
    return [one.event for one in found.events]


# -- NATS


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[NatsConnection]:
    connection = NatsConnection(nats_url)
    yield connection
    await connection.close()


@pytest.fixture
async def stream(connection: NatsConnection) -> str:
    name = f"T{secrets.token_hex(6)}"
    context = await connection.jetstream()
    await context.add_stream(StreamConfig(name=name, subjects=[f"{name}.>"]))
    return name


async def publish(connection: NatsConnection, subject: str, body: bytes, id: str | None = None) -> None:
    context = await connection.jetstream()
    await context.publish(subject, body, headers=None if id is None else {"Nats-Msg-Id": id, "x-kind": "new"})


async def test_a_message_is_delivered_until_it_is_acknowledged(
    connection: NatsConnection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.bus.nats_messages.ACK_WAIT_SECONDS", 0.2)
    await publish(connection, f"{stream}.new", b'{"order": 7}', "m1")
    await publish(connection, f"{stream}.old", b"plain")
    source, trigger = NatsSource(NatsMessages(connection), Known()), polled(f"nats:{stream}", stream=stream)
    first, second = events(await source.read(trigger, 10))
    assert (first["id"], first["type"], first["data"]) == ("m1", f"{stream}.new", {"order": 7})
    assert first["headers"]["x-kind"] == "new"
    assert (second["data"], second["id"].split(":")[:2]) == ("plain", [stream, "2"])
    again = await acknowledged(source, trigger, first["id"], second["id"])
    assert again.keys() == {first["id"], second["id"]}, "the same ids as before"
    await publish(connection, f"{stream}.new", b"3", "m3")
    assert (await acknowledged(source, trigger, "m3")).keys() == {"m3"}, "and only what follows"


async def acknowledged(source: NatsSource, trigger: PolledTrigger, *awaited: str) -> dict[str, dict[str, Any]]:
    """What it delivers until all that is awaited is there, by id. Just after a message, NATS may say: none waits."""
    seen: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 30
    while not seen.keys() >= set(awaited):
        assert time.monotonic() < deadline, f"only {sorted(seen)} came, not {awaited}"
        found = await source.read(trigger, 10)
        seen |= {one["id"]: one for one in events(found)}
        for one in found.events:
            await one.acknowledge()
    return seen


async def test_a_batch_has_a_limit_and_says_that_there_is_more(connection: NatsConnection, stream: str) -> None:
    for number in range(3):
        await publish(connection, f"{stream}.n", str(number).encode())
    source, trigger = NatsSource(NatsMessages(connection), Known()), polled(f"nats:{stream}", stream=stream)
    first = await source.read(trigger, 2)
    rest = await source.read(trigger, 2)
    assert ([one["data"] for one in events(first)], first.more) == ([0, 1], True)
    assert ([one["data"] for one in events(rest)], rest.more) == ([2], False)


async def test_only_messages_of_the_subject_and_since_the_registration(connection: NatsConnection, stream: str) -> None:
    await publish(connection, f"{stream}.old", b"1")
    source = NatsSource(NatsMessages(connection), Known())
    trigger = polled(f"nats:{stream}", stream=stream, subject=f"{stream}.new.*")
    await publish(connection, f"{stream}.new.a", b"2")
    assert [one["data"] for one in events(await source.read(trigger, 10))] == [2]
    later = replace(trigger, trigger_id=8, updated_at=datetime.now(UTC))
    await publish(connection, f"{stream}.new.a", b"3")
    assert [one["data"] for one in events(await source.read(later, 10))] == [3]


async def work_queue(connection: NatsConnection) -> str:
    name = f"T{secrets.token_hex(6)}"
    context = await connection.jetstream()
    config = StreamConfig(name=name, subjects=[f"{name}.>"], retention=RetentionPolicy.WORK_QUEUE)
    await context.add_stream(config)
    return name


async def taken(source: NatsSource, trigger: PolledTrigger) -> list[Any]:
    found = await source.read(trigger, 10)
    for one in found.events:
        await one.acknowledge()
    return [one["data"] for one in events(found)]


async def test_the_subject_of_a_work_queue_can_be_changed(connection: NatsConnection) -> None:
    name, known = await work_queue(connection), Known()
    source, whole = NatsSource(NatsMessages(connection), known), polled(f"nats:{name}", stream=name)
    part = replace(whole, config={"stream": name, "subject": f"{name}.a"})
    for number, trigger in enumerate((whole, part, whole)):
        known.triggers = [stored(trigger)]
        await publish(connection, f"{name}.a", str(number).encode())
        assert await taken(source, trigger) == [number]
        consumers = await (await connection.jetstream()).consumers_info(name)
        assert len(consumers) == 1


async def test_a_work_queue_of_a_trigger_that_is_gone_can_be_read_by_another(connection: NatsConnection) -> None:
    name, known = await work_queue(connection), Known()
    source, first = NatsSource(NatsMessages(connection), known), polled(f"nats:{name}", stream=name)
    second = replace(first, trigger_id=8)
    assert await taken(source, first) == []
    await publish(connection, f"{name}.a", b"1")
    # unknown: another deployment's; disabled: its messages wait
    for triggers in ([], [stored(first)], [stored(first, enabled=False)]):
        known.triggers = [*triggers, stored(second)]
        with pytest.raises(Problem, match="NATS refuses a consumer"):
            await taken(source, second)
    known.triggers = [stored(first, declared=False), stored(second)]
    assert await taken(source, second) == [1]


@pytest.mark.parametrize("changes", [{"kind": "webhook", "config": {}}, {"config": {"stream": "OTHER"}}])
async def test_a_trigger_that_listens_to_something_else_leaves_its_work_queue(
    connection: NatsConnection, changes: dict[str, Any]
) -> None:
    name, known = await work_queue(connection), Known()
    source, first = NatsSource(NatsMessages(connection), known), polled(f"nats:{name}", stream=name)
    assert await taken(source, first) == []
    await publish(connection, f"{name}.a", b"1")
    known.triggers = [stored(replace(first, **changes))]
    assert await taken(source, replace(first, trigger_id=8)) == [1]


async def test_a_work_queue_is_read_from_its_beginning(connection: NatsConnection) -> None:
    name = await work_queue(connection)
    await publish(connection, f"{name}.a", b"1")
    source, trigger = NatsSource(NatsMessages(connection), Known()), polled(f"nats:{name}", stream=name)
    [one] = (await source.read(trigger, 10)).events
    await one.acknowledge()
    other = replace(trigger, trigger_id=8)
    with pytest.raises(Problem, match=f"NATS refuses a consumer of the stream {name}"):
        await source.read(other, 10)


async def test_a_stream_that_is_not_there_is_named(connection: NatsConnection) -> None:
    with pytest.raises(NotFound, match="there is no stream NOWHERE"):
        await NatsSource(NatsMessages(connection), Known()).read(polled("nats:NOWHERE", stream="NOWHERE"), 10)


# -- folders


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are taken at once."""
    monkeypatch.setattr(sources, "SETTLED_NS", -1_000_000_000)


async def test_a_file_is_an_event_once_and_again_when_it_is_written_again(tmp_path: Path) -> None:
    source, trigger = FolderSource(), polled(f"{tmp_path.as_uri()}/", suffix=".csv")
    (tmp_path / "a b.csv").write_text("1")
    for other in ("c.txt", ".hidden.csv"):
        (tmp_path / other).write_text("2")
    (tmp_path / "folder.csv").mkdir()
    found = await source.read(trigger, 10)
    [event] = events(found)
    assert event["data"] == {"url": f"{tmp_path.as_uri()}/a%20b.csv", "key": "a b.csv", "bytes": 1}
    after = polled(trigger.source, dict(found.position), suffix=".csv")
    assert events(await source.read(after, 10)) == []
    (tmp_path / "a b.csv").chmod(0o600)
    [again] = events(await source.read(after, 10))
    assert again["id"] == event["id"], "it has not been written again"
    (tmp_path / "a b.csv").write_text("22")
    [new] = events(await source.read(after, 10))
    assert new["id"] != event["id"]


async def test_a_file_whose_times_lie_ahead_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SETTLED_NS", 0)
    ahead, later = tmp_path / "a.csv", tmp_path / "b.csv"
    ahead.write_text("1")
    os.utime(ahead, (time.time() + 3600, time.time() + 3600))
    await asyncio.sleep(0.02)
    later.write_text("1")
    source, trigger = FolderSource(), polled(f"{tmp_path.as_uri()}/")
    await asyncio.sleep(0.02)
    assert [one["data"]["key"] for one in events(await source.read(trigger, 10))] == ["a.csv", "b.csv"]


async def test_a_file_that_is_moved_into_the_folder_is_new_however_old_it_is(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "old.csv"
    folder.mkdir()
    elsewhere.write_text("1")
    os.utime(elsewhere, (1, 1))
    source, trigger = FolderSource(), polled(f"{folder.as_uri()}/")
    found = await source.read(trigger, 10)
    elsewhere.rename(folder / "old.csv")
    [event] = events(await source.read(polled(trigger.source, dict(found.position)), 10))
    assert event["time"] == "1970-01-01T00:00:01.000Z"


@pytest.mark.parametrize(
    ("seconds", "year"), [(-(2**40), "0001"), (2**40, "9999"), (253_402_300_799, "9999"), (-62_135_596_800, "0001")]
)
async def test_a_file_of_a_time_that_no_calendar_has_keeps_no_other_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, year: str
) -> None:
    for name in ("odd.csv", "plain.csv"):
        (tmp_path / name).write_text("1")

    def odd(entry: os.DirEntry[str]) -> os.stat_result:
        # not every file system knows such times
        status = entry.stat()
        modified_ns = seconds * 10**9 if entry.name == "odd.csv" else status.st_mtime_ns
        return os.stat_result(status, {"st_ctime_ns": status.st_ctime_ns, "st_mtime_ns": modified_ns})

    monkeypatch.setattr(sources, "_status", odd)
    found = events(await FolderSource().read(polled(f"{tmp_path.as_uri()}/"), 10))
    assert {one["data"]["key"]: one["time"][:4] for one in found}.items() >= {"odd.csv": year}.items()
    assert len(found) == 2


async def test_links_out_of_the_folder_are_no_files_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, secret, own = tmp_path / "in", tmp_path / "secret.csv", tmp_path / "in" / "own"
    own.mkdir(parents=True)
    for file in (secret, own / "key.csv", folder / "plain.csv"):
        file.write_text("1")
    links: dict[str, Path | str] = {
        "a.csv": secret,
        "b.csv": "../secret.csv",
        "c.csv": "c.csv",
        "d.csv": "own/key.csv",
        "e.csv": "plain.csv",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    source, trigger = FolderSource([own]), polled(f"{folder.as_uri()}/")
    for _ in range(2):
        found = events(await source.read(trigger, 10))
        assert {one["data"]["key"] for one in found} == {"e.csv", "plain.csv"}
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith("they are links out of it: 'a.csv', 'b.csv', 'c.csv', 'd.csv'")


async def test_a_name_that_is_no_text_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    try:
        (tmp_path / os.fsdecode(b"bad\xff.csv")).write_text("1")
    except OSError:
        pytest.skip("the file system has no such names")
    source, trigger = FolderSource(), polled(f"{tmp_path.as_uri()}/")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("1")
        found = await source.read(trigger, 10)
        assert [one["data"]["key"] for one in events(found)] == [name]
        assert found.problem is not None
        assert found.problem.detail == (
            f"files of {tmp_path} are not read, since their names are not UTF-8: 'bad\\xff.csv'. Rename them"
        )
        trigger = replace(trigger, position=dict(found.position))
    [line] = [record.getMessage() for record in caplog.records]
    later = replace(trigger, updated_at=datetime.now(UTC) + timedelta(hours=1))
    assert (await source.read(later, 10)).problem is None, "it was there before the trigger"
    (tmp_path / os.fsdecode(b"bad\xff.csv")).rename(tmp_path / "c.csv")
    found = await source.read(trigger, 10)
    assert [one["data"]["key"] for one in events(found)] == ["c.csv"]
    assert found.problem is None
    assert "'bad\\udcff.csv'" in line


async def test_files_are_read_in_batches_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{9 - number}.csv").write_text("1")
    source, trigger = FolderSource(), polled(f"{tmp_path.as_uri()}/")
    names: list[str] = []
    more = True
    while more:
        found = await source.read(trigger, 2)
        names += [one["data"]["key"] for one in events(found)]
        trigger, more = polled(trigger.source, dict(found.position)), found.more
    assert names == [f"{9 - number}.csv" for number in range(5)]


async def test_a_file_that_may_still_be_written_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SETTLED_NS", 3_600_000_000_000)
    (tmp_path / "a.csv").write_text("1")
    source, trigger = FolderSource(), polled(f"{tmp_path.as_uri()}/")
    found = await source.read(trigger, 10)
    assert events(found) == []
    monkeypatch.setattr(sources, "SETTLED_NS", -1_000_000_000)
    assert len(events(await source.read(polled(trigger.source, dict(found.position)), 10))) == 1


async def test_what_lay_there_before_the_registration_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    trigger = polled(f"{tmp_path.as_uri()}/")
    later = replace(trigger, updated_at=datetime.fromtimestamp(time.time() + 1, UTC))
    assert events(await FolderSource().read(later, 10)) == []


async def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="nowhere cannot be read: No such file"):
        await FolderSource().read(polled(f"{tmp_path.as_uri()}/nowhere"), 10)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Forbidden, match="this stack's own"):
        await FolderSource([tmp_path]).read(polled(f"{tmp_path.as_uri()}/link/"), 10)
    monkeypatch.setattr(sources, "MAX_FILES", 0)
    with pytest.raises(Problem, match="more than 0 files"):
        await FolderSource().read(polled(tmp_path.as_uri()), 10)
