from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from noetl_serverless.errors import Unauthenticated
from noetl_serverless.protocol import CommandKey
from noetl_serverless.settings import Settings
from noetl_serverless.telemetry.presence import Presence, Status, described
from noetl_serverless.testing.host import MemoryHost, MemoryInvoker
from noetl_serverless.worker.archive import ArchiveSummary
from noetl_serverless.worker.service import NotificationReceiver, make_app


class FakeClient:
    async def check(self) -> None:
        return None


class FakeArchivist:
    def __init__(self) -> None:
        self.runs: list[float] = []
        self.more = False
        self.gate: asyncio.Event | None = None

    async def run(self, seconds: float) -> ArchiveSummary:
        self.runs.append(seconds)
        if self.gate is not None:
            await self.gate.wait()
        return ArchiveSummary(registered=1, more=self.more)


class FakeWorker:
    def __init__(self, **summary: Any) -> None:
        self.settings = Settings(time_budget=60.0, pool="shared")
        self.client = FakeClient()
        self.facts = {"shared_memory": "off"}
        self.presence = Presence(described("worker_pool", "w-1", meta={}))
        self.archive_writer = FakeArchivist()
        self.summary = {"status": "drained", "claimed": 1, "more": False, **summary}
        self.drains: list[tuple[float, bool]] = []
        self.named: list[list[str]] = []
        self.closed = False
        self.warmed = False
        self.gate: asyncio.Event | None = None
        self.start_drain: Callable[[], object] | None = None

    def accept_offers(self, start_drain: Callable[[], object]) -> None:
        self.start_drain = start_drain

    async def drain(
        self, seconds: float, *, sweep: bool = False, commands: Sequence[CommandKey] = ()
    ) -> dict[str, Any]:
        self.drains.append((seconds, sweep))
        self.named.append([key.command_id for key in commands])
        if self.gate is not None:
            await self.gate.wait()
        return self.summary

    async def show(self, status: Status, *, after: float = 0.0) -> None:
        if after == 0.0:
            self.presence.now(status)

    async def keep_showing(self, status: Status) -> None:
        self.presence.now(status)

    def start_python(self) -> None:
        self.warmed = True

    async def close(self) -> None:
        self.closed = True


async def call(
    app: Any, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(key.encode(), value.encode()) for key, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    try:
        return sent[0]["status"], orjson.loads(content)
    except orjson.JSONDecodeError:
        return sent[0]["status"], content.decode()


async def test_an_invocation_drains_and_answers_with_the_summary() -> None:
    worker: Any = FakeWorker()
    status, body = await call(make_app(worker, MemoryHost(600)), "POST", "/", b'{"pool": "shared"}')
    assert (status, body["status"]) == (200, "drained")
    assert worker.drains == [(60.0, False)]


async def test_it_does_not_outlive_its_host() -> None:
    worker: Any = FakeWorker()
    await call(make_app(worker, MemoryHost(7)), "POST", "/")
    assert worker.drains == [(7, False)]


async def test_an_invocation_may_ask_for_a_sweep() -> None:
    worker: Any = FakeWorker()
    await call(make_app(worker, MemoryHost()), "POST", "/", b'{"sweep": true}')
    assert worker.drains[0][1] is True


async def test_an_invocation_may_name_commands() -> None:
    worker: Any = FakeWorker()
    good = {"execution_id": "7", "command_id": "a"}
    body = orjson.dumps({"commands": [good, "b", {"command_id": "c"}, {"execution_id": "x", "command_id": "d"}]})
    await call(make_app(worker, MemoryHost()), "POST", "/", body)
    assert worker.named == [["a"]]


async def test_of_the_commands_that_an_invocation_names_no_more_are_claimed_than_one_claim_takes() -> None:
    worker: Any = FakeWorker()
    many = [{"execution_id": "1", "command_id": f"a{number}"} for number in range(1001)]
    await call(make_app(worker, MemoryHost()), "POST", "/", orjson.dumps({"commands": many}))
    assert [len(named) for named in worker.named] == [1000], "the control plane would refuse the claim"


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"', b"x" * 70_000])
async def test_anything_but_an_object_is_refused(body: bytes) -> None:
    worker: Any = FakeWorker()
    status, problem = await call(make_app(worker, MemoryHost()), "POST", "/", body)
    assert (status, problem["code"]) == (400, "request.invalid")
    assert worker.drains == []


async def test_an_invocation_may_need_a_token() -> None:
    def authorise(header: str | None) -> None:
        if header != "Bearer good":
            raise Unauthenticated("no")

    worker: Any = FakeWorker()
    app = make_app(worker, MemoryHost(), authorise=authorise)
    assert (await call(app, "POST", "/"))[0] == 401
    assert (await call(app, "POST", "/", headers={"authorization": "Bearer good"}))[0] == 200


@pytest.mark.parametrize(
    ("summary", "delays"),
    [
        ({"more": False}, []),
        ({"more": True}, [0.0]),
        # not at once: others have what it could not claim
        ({"more": True, "claimed": 0}, [2.0]),
        ({"more": True, "status": "stopped"}, []),
    ],
)
async def test_it_invokes_again_for_what_it_left(summary: dict[str, Any], delays: list[float]) -> None:
    worker: Any = FakeWorker(**summary)
    invoker = MemoryInvoker()
    await call(make_app(worker, MemoryHost(), invoker=invoker), "POST", "/")
    assert [invocation.delay for invocation in invoker.invocations] == delays
    assert all(invocation.function == "shared" for invocation in invoker.invocations)


async def test_the_drain_goes_on_when_the_caller_hangs_up() -> None:
    worker: Any = FakeWorker(more=True)
    worker.gate = asyncio.Event()
    invoker = MemoryInvoker()
    app = make_app(worker, MemoryHost(), invoker=invoker)
    invoking = asyncio.create_task(call(app, "POST", "/"))
    async with asyncio.timeout(5):
        while not worker.drains:  # noqa: ASYNC110
            await asyncio.sleep(0)
    invoking.cancel()
    await asyncio.wait([invoking])
    worker.gate.set()
    async with asyncio.timeout(5):
        while not invoker.invocations:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert [(invocation.function, invocation.delay) for invocation in invoker.invocations] == [("shared", 0.0)]


async def test_probes() -> None:
    worker: Any = FakeWorker()
    app = make_app(worker, MemoryHost())
    assert (await call(app, "GET", "/livez"))[0] == 200
    ready = (await call(app, "GET", "/readyz"))[1]
    assert ready == {"status": "ok", "checks": {"control_plane": "ok"}, "shared_memory": "off"}
    assert "noetl_commands_in_flight" in (await call(app, "GET", "/metrics"))[1]


async def test_its_end_closes_the_worker() -> None:
    worker: Any = FakeWorker()
    ended: list[str] = []

    async def close() -> None:
        ended.append("others")

    app = make_app(worker, MemoryHost(), close=close)
    async with app.router.lifespan_context(app):
        pass
    assert worker.closed
    assert ended == ["others"]


async def test_an_invocation_for_the_archive_is_answered_before_it_is_written() -> None:
    worker: Any = FakeWorker()
    worker.archive_writer.gate = asyncio.Event()
    app = make_app(worker, MemoryHost(600))
    for _ in range(3):
        assert (await call(app, "POST", "/", b'{"archive": true}'))[0] == 200
    assert len(worker.drains) == 3
    await asyncio.sleep(0)
    assert worker.archive_writer.runs == [60.0]
    worker.archive_writer.gate.set()
    await asyncio.sleep(0.01)
    assert worker.archive_writer.runs == [60.0, 60.0], "the invocations meanwhile make it look once more"


async def test_who_does_not_ask_for_the_archive_has_none_written() -> None:
    worker: Any = FakeWorker()
    for background in (True, False):
        await call(make_app(worker, MemoryHost(600), runs_after_response=background), "POST", "/", b'{"sweep": true}')
        await asyncio.sleep(0)
    assert (len(worker.drains), worker.archive_writer.runs) == (2, [])


async def test_where_nothing_goes_on_after_the_answer_the_archive_comes_first() -> None:
    worker: Any = FakeWorker()
    invoker = MemoryInvoker()
    worker.archive_writer.more = True
    app = make_app(worker, MemoryHost(600), invoker=invoker, runs_after_response=False)
    await call(app, "POST", "/", b'{"archive": true}')
    assert worker.archive_writer.runs == [60.0]
    assert [invocation.payload for invocation in invoker.invocations] == [{"pool": "shared", "archive": True}]


async def test_its_end_stops_what_is_written_for_the_archive() -> None:
    worker: Any = FakeWorker()
    worker.archive_writer.gate = asyncio.Event()
    app = make_app(worker, MemoryHost(600))
    before = asyncio.all_tasks()
    async with app.router.lifespan_context(app):
        assert worker.warmed
        await call(app, "POST", "/", b'{"archive": true}')
        await asyncio.sleep(0)
        (writing,) = asyncio.all_tasks() - before
    assert writing.cancelled()
    assert worker.closed


async def test_an_archive_that_cannot_be_written_is_left_and_invoked_for_no_more() -> None:
    class Broken(FakeArchivist):
        async def run(self, seconds: float) -> ArchiveSummary:
            self.runs.append(seconds)
            raise Unauthenticated("no")

    worker: Any = FakeWorker()
    worker.archive_writer = Broken()
    invoker = MemoryInvoker()
    app = make_app(worker, MemoryHost(30), invoker=invoker, runs_after_response=False)
    assert (await call(app, "POST", "/", b'{"archive": true}'))[0] == 200
    assert (worker.archive_writer.runs, invoker.invocations) == ([30], [])


async def test_an_invocation_that_cannot_be_invoked_again_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(MemoryInvoker):
        async def invoke(self, function: str, payload: Any = None, delay: float = 0.0) -> None:
            raise RuntimeError("no")

    worker: Any = FakeWorker(more=True)
    assert (await call(make_app(worker, MemoryHost(), invoker=Deaf()), "POST", "/"))[0] == 200
    assert "could not invoke the worker again: RuntimeError" in caplog.text


@pytest.mark.parametrize(("left", "seconds"), [(20.0, 20.0), (600.0, 60.0)])
async def test_a_drain_has_the_time_that_is_left_or_as_much_as_is_set(left: float, seconds: float) -> None:
    worker: Any = FakeWorker()
    for body, sweep in ((b"{}", False), (b'{"sweep": true}', True), (b"", False)):
        await call(make_app(worker, MemoryHost(left)), "POST", "/", body)
        assert worker.drains[-1] == (seconds, sweep)


@pytest.mark.parametrize("broken", [False, True])
async def test_each_invocation_for_the_archive_has_it_written_whatever_became_of_the_one_before(broken: bool) -> None:
    class Archivist(FakeArchivist):
        async def run(self, seconds: float) -> ArchiveSummary:
            summary = await super().run(seconds)
            if broken:
                raise Unauthenticated("no")
            return summary

    worker: Any = FakeWorker()
    worker.archive_writer = Archivist()
    for runs_after_response in (True, False):
        app = make_app(worker, MemoryHost(600), runs_after_response=runs_after_response)
        worker.archive_writer.runs.clear()
        for written in (1, 2):
            assert (await call(app, "POST", "/", b'{"archive": true}'))[0] == 200
            await asyncio.sleep(0.01)
            assert len(worker.archive_writer.runs) == written


async def test_where_nothing_goes_on_after_the_answer_it_waits_for_the_archive_that_another_began() -> None:
    worker: Any = FakeWorker()
    worker.archive_writer.gate = asyncio.Event()
    app = make_app(worker, MemoryHost(600), runs_after_response=False)
    callers = []
    for _ in range(2):
        callers.append(asyncio.create_task(call(app, "POST", "/", b'{"archive": true}')))
        await asyncio.sleep(0.01)
    assert (len(worker.drains), len(worker.archive_writer.runs)) == (2, 1)
    assert not any(caller.done() for caller in callers), "the host stops what runs after the answer"
    worker.archive_writer.gate.set()
    assert [status for status, _ in await asyncio.wait_for(asyncio.gather(*callers), 5)] == [200, 200]
    assert len(worker.archive_writer.runs) == 2


async def test_work_that_is_left_needs_no_invoker() -> None:
    worker: Any = FakeWorker(more=True)
    worker.archive_writer.more = True
    app = make_app(worker, MemoryHost(600), runs_after_response=False)
    status, body = await call(app, "POST", "/", b'{"archive": true}')
    assert (status, body["more"]) == (200, True), "the reconciler invokes it"


async def test_it_closes_without_having_archived_anything() -> None:
    worker: Any = FakeWorker()
    app = make_app(worker, MemoryHost(600))
    async with app.router.lifespan_context(app):
        await call(app, "POST", "/")
    assert worker.closed


@pytest.mark.parametrize(("status", "logged"), [("drained", True), ("stopped", True), ("draining", False)])
async def test_the_log_has_each_drain_once(status: str, logged: bool, caplog: pytest.LogCaptureFixture) -> None:
    worker: Any = FakeWorker(status=status, more=True)
    invoker = MemoryInvoker()
    with caplog.at_level("INFO"):
        await call(make_app(worker, MemoryHost(600), invoker=invoker), "POST", "/", b'{"archive": true}')
        await asyncio.sleep(0.01)
    said = {record.message: getattr(record, "summary", None) for record in caplog.records}
    assert ("drained" in said) is logged
    assert said["archived"] == {"registered": 1, "failed": 0, "more": False}
    assert len(invoker.invocations) == (status == "drained"), "a drain under way invokes for itself"


async def test_several_invocations_are_one_drain_with_all_that_they_ask_for() -> None:
    worker: Any = FakeWorker()
    invocations: list[dict[str, Any]] = [
        {"commands": [{"execution_id": "1", "command_id": "a"}]},
        {"sweep": True},
        {"commands": [{"execution_id": "1", "command_id": "b"}, {"execution_id": "2", "command_id": "a"}]},
    ]
    await NotificationReceiver(worker, MemoryHost(600), None, None).drain(invocations)
    assert (worker.drains, worker.named) == ([(60.0, True)], [["a", "b", "a"]])


async def test_an_archive_that_ran_out_of_time_is_left_to_the_next_invocation() -> None:
    worker: Any = FakeWorker()
    worker.archive_writer.more = True
    worker.archive_writer.gate = asyncio.Event()
    invoker = MemoryInvoker()
    app = make_app(worker, MemoryHost(600), invoker=invoker)
    for _ in range(2):
        await call(app, "POST", "/", b'{"archive": true}')
        await asyncio.sleep(0)
    worker.archive_writer.gate.set()
    await asyncio.sleep(0.01)
    assert worker.archive_writer.runs == [60.0], "it goes on although its time is over"
    assert [(one.payload, one.delay) for one in invoker.invocations] == [({"pool": "shared", "archive": True}, 0.0)]


async def test_the_archive_is_written_even_if_the_caller_hangs_up() -> None:
    worker: Any = FakeWorker()
    worker.archive_writer.gate = asyncio.Event()
    app = make_app(worker, MemoryHost(600), runs_after_response=False)
    before = asyncio.all_tasks()
    caller = asyncio.create_task(call(app, "POST", "/", b'{"archive": true}'))
    await asyncio.sleep(0.01)
    (writing,) = asyncio.all_tasks() - before - {caller}
    caller.cancel()
    await asyncio.wait([caller])
    worker.archive_writer.gate.set()
    await asyncio.wait_for(asyncio.wait([writing]), 5)
    assert not writing.cancelled()
