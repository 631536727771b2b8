"""Scripts are read as their playbook is registered, and are a part of its text from then on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.serving import serving_app

from noetl_serverless.control_plane import object_get, scripts
from noetl_serverless.control_plane.http_get import NotFetched
from noetl_serverless.control_plane.scripts import MAX_SCRIPTS, ScriptReader
from noetl_serverless.errors import InvalidPlaybook, NotFound
from noetl_serverless.limits import SCRIPT_BYTES
from noetl_serverless.playbook.scripts import Source, split, with_scripts
from noetl_serverless.ports import ResultStore
from noetl_serverless.results.store import FsspecResultStore

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\nworkflow:\n"


def playbook(*scripts: str) -> str:
    steps = "".join(f"  - {{step: s{n}, tool: {{kind: python, script: {{{s}}}}}}}\n" for n, s in enumerate(scripts))
    return HEAD + steps


def in_memory(url: str) -> ResultStore:
    return FsspecResultStore(url.replace("s3://", "memory://").replace("gs://", "memory://"))


@pytest.fixture
def reader() -> ScriptReader:
    return ScriptReader(in_memory, allow_private_http=True)


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    def text(content: str | bytes) -> web.Response:
        return web.Response(body=content)

    async def page(request: web.Request) -> web.Response:
        match request.path:
            case "/load.py":
                return text("result = 'ü'\n")
            case "/moved.py":
                raise web.HTTPFound("/load.py")
            case "/metadata":
                raise web.HTTPFound("http://169.254.169.254/latest")
            case "/large":
                return text(b"x" * (SCRIPT_BYTES + 1))
            case "/bytes":
                return text(b"\xff")
            case "/slow":
                return await slow(request)
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{path}", page)
    async with serving_app(app) as url:
        yield url


async def refusal(reader: ScriptReader, script: str) -> str:
    with pytest.raises(InvalidPlaybook) as caught:
        await reader.complete(playbook(script))
    [fault] = caught.value.faults
    assert (fault.pointer, fault.line, fault.code) == ("/workflow/0/tool/script/uri", 5, "playbook.script")
    return fault.message


async def test_a_playbook_without_scripts_is_left_as_it_is(reader: ScriptReader) -> None:
    for text in (HEAD, f"{HEAD}  - {{step: a, desc: no script, tool: {{kind: noop}}}}\n", playbook("uri: x.py")):
        assert await reader.complete(text) == text


async def test_what_is_at_a_url_becomes_a_part_of_the_text(reader: ScriptReader, site: str) -> None:
    text = playbook(f"uri: '{site}/load.py'", f"uri: moved.py, source: {{type: http, endpoint: '{site}'}}", "uri: a.py")
    whole = await reader.complete(with_scripts(text, {"a.py": "x = 1", "unused.py": "x = 2"}))
    assert split(whole) == (
        text,
        {"a.py": "x = 1", f"{site}/load.py": "result = 'ü'\n", f"{site}/moved.py": "result = 'ü'\n"},
    )


async def test_what_has_been_read_is_not_read_again(reader: ScriptReader) -> None:
    text = with_scripts(playbook("uri: 'http://127.0.0.1:1/gone.py'"), {"http://127.0.0.1:1/gone.py": "x = 1"})
    assert await reader.complete(text) == text


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_an_object_becomes_a_part_of_the_text(reader: ScriptReader, scheme: str) -> None:
    await in_memory(f"{scheme}://scripts").put("lib/load.py", b"result = 1")
    whole = await reader.complete(playbook(f"uri: '{scheme}://scripts/lib/load.py'"))
    assert split(whole)[1] == {f"{scheme}://scripts/lib/load.py": "result = 1"}


async def test_what_cannot_be_read_is_refused_with_its_place(
    reader: ScriptReader, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "READ_SECONDS", 0.5)
    for path, reason in (
        ("none.py", f"GET {site}/none.py: the answer is 404 Not Found"),
        ("large", f"GET {site}/large: the response is larger than 1 MiB"),
        ("bytes", f"the script '{site}/bytes' is not UTF-8 text"),
        ("slow", "it took longer than 0.5 s"),
    ):
        assert await refusal(reader, f"uri: '{site}/{path}'") == f"the script '{site}/{path}': {reason}"
    assert "there is no such object" in await refusal(reader, "uri: 's3://scripts/none.py'")
    await in_memory("s3://scripts").put("large.py", b"x" * (2 * SCRIPT_BYTES))
    assert "has more than 1048576 bytes" in await refusal(reader, "uri: 's3://scripts/large.py'")


async def test_addresses_are_those_that_http_tasks_may_reach(reader: ScriptReader, site: str) -> None:
    assert "link-local and metadata services" in await refusal(reader, f"uri: '{site}/metadata'")
    public_only = ScriptReader(in_memory, allow_private_http=False)
    assert "private networks and this machine" in await refusal(public_only, f"uri: '{site}/load.py'")


async def test_results_and_archives_cannot_be_read_as_scripts() -> None:
    """The control plane may read them; whoever registers a playbook may not."""
    reader = ScriptReader(in_memory, allow_private_http=True, result_url="s3://results/noetl")
    for uri in ("s3://results/noetl/7/step/x.json", "s3://results/other.py"):
        assert "the bucket of results and archives holds no scripts" in await refusal(reader, f"uri: '{uri}'")


async def test_an_object_is_read_with_a_credential_where_the_script_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    async def credential(name: str) -> dict[str, str]:
        if name != "reader":
            raise NotFound(f"there is no credential {name!r}")
        return {"access_token": "t"}

    def get(url: str, source: Source, data: dict[str, str], **limits: object) -> bytes:
        asked.append((url, source.auth, data, limits))
        if url.endswith("none.py"):
            raise NotFetched("GET x: the answer is 404 Not Found")
        return b"result = 1"

    monkeypatch.setattr(object_get, "object_get", get)
    reader = ScriptReader(in_memory, allow_private_http=False, result_url="gs://results/x", credential=credential)
    whole = await reader.complete(playbook("uri: 'gs://b/x.py', source: {auth: reader, timeout: 3}"))
    assert split(whole)[1] == {"gs://b/x.py": "result = 1"}
    limits = {"allow_private": False, "seconds": 3.0, "max_bytes": SCRIPT_BYTES}
    assert asked == [("gs://b/x.py", "reader", {"access_token": "t"}, limits)]
    assert "there is no credential 'other'" in await refusal(reader, "uri: 'gs://b/x.py', source: {auth: other}")
    assert "404 Not Found" in await refusal(reader, "uri: 'gs://b/none.py', source: {auth: reader}")
    assert "holds no scripts" in await refusal(reader, "uri: 'gs://results/x.py', source: {auth: reader}")
    s3 = "uri: 's3://results/x.py', source: {auth: reader, endpoint: 'https://storage.googleapis.com'}"
    assert "holds no scripts" in await refusal(reader, s3)


async def test_what_goes_wrong_with_a_credential_is_a_fault_that_tells_nothing_of_it() -> None:
    async def unreadable(name: str) -> dict[str, str]:
        raise ValueError("SECRET")

    reader = ScriptReader(in_memory, allow_private_http=True, credential=unreadable)
    message = await refusal(reader, "uri: 'gs://b/x.py', source: {auth: reader}")
    assert message.endswith("the credential 'reader' cannot be read: ValueError") and "SECRET" not in message


@pytest.mark.parametrize(
    "other", ["endpoint: 'https://two.example', auth: reader", "auth: other", "auth: reader, region: r"]
)
async def test_one_url_is_not_read_from_two_places(other: str) -> None:
    first, second = "uri: 's3://b/x.py', source: {auth: reader}", f"uri: 's3://b/x.py', source: {{{other}}}"
    text = with_scripts(playbook(first, second), {"s3://b/x.py": "result = 1"})
    with pytest.raises(InvalidPlaybook) as caught:
        await ScriptReader(in_memory, allow_private_http=True).complete(text)
    [fault] = caught.value.faults
    assert (fault.pointer, fault.line) == ("/workflow/1/tool/script/uri", 6)
    assert "another task reads it from elsewhere, or with other keys" in fault.message


async def test_a_host_that_cannot_read_such_objects_says_so() -> None:
    def none(url: str) -> ResultStore:
        raise ImportError("install s3fs")

    reader = ScriptReader(none, allow_private_http=True)
    assert "it cannot be read from here: ImportError: install s3fs" in await refusal(reader, "uri: 's3://b/x.py'")


async def test_the_number_of_scripts_is_limited(reader: ScriptReader) -> None:
    text = playbook(*(f"uri: {n}.py" for n in range(MAX_SCRIPTS + 1)))
    with pytest.raises(InvalidPlaybook, match="names 101 scripts, more than 100"):
        await reader.complete(text)
