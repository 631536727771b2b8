from __future__ import annotations

import asyncio
import socket
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.serving import serving

from noetl_serverless.hosts.local.external_servers import check_database, check_nats, check_results
from noetl_serverless.hosts.local.ports import free_port


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{free_port()}"


async def test_a_database_that_cannot_be_reached_is_reported_by_its_setting_and_address(nobody: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        await check_database(f"postgresql://ann:s3cret@{nobody}/db")
    message = str(caught.value)
    assert message.startswith(f"NOETL_DATABASE_URL: no PostgreSQL server can be reached at {nobody}: ")
    assert "refused" in message and "s3cret" not in message and "\n" not in message


async def test_a_url_of_another_kind_of_server_is_reported(nobody: str) -> None:
    with pytest.raises(RuntimeError, match=r"^NOETL_DATABASE_URL: the URL of a PostgreSQL database begins with"):
        await check_database(f"mysql://{nobody}/db")


async def test_a_nats_server_that_cannot_be_reached_is_reported_by_its_setting_and_address(nobody: str) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError) as caught:
            await check_nats(f"nats://noetl:s3cret@{nobody},nats://{nobody}")
    assert str(caught.value) == f"NOETL_NATS_URL: no NATS server can be reached at {nobody}, {nobody}"


async def test_another_server_in_the_place_of_nats_is_reported() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, family=socket.AF_INET)
    host, port = server.sockets[0].getsockname()
    async with server:
        with pytest.raises(RuntimeError, match=rf"^NOETL_NATS_URL: no NATS server can be reached at {host}:{port}"):
            await check_nats(f"nats://{host}:{port}")


@pytest.fixture
def keys() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cret"}


async def test_a_store_of_results_that_cannot_be_reached_is_reported_by_its_setting(
    nobody: str, keys: dict[str, str]
) -> None:
    for url, environ in (
        ("s3://results/x", {**keys, "AWS_ENDPOINT_URL": f"http://{nobody}"}),
        ("gs://results/x", {"STORAGE_EMULATOR_HOST": nobody}),
    ):
        with pytest.raises(RuntimeError) as caught:
            await check_results(url, environ)
        message = str(caught.value)
        assert message.startswith(f"NOETL_RESULT_URL={url}: ") and "does not answer" in message
        assert "s3cret" not in message


async def test_a_store_of_results_without_keys_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(RuntimeError, match=r"^NOETL_RESULT_URL=s3://results: .*noetl-serverless\[aws\]"):
        await check_results("s3://results", {})
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(RuntimeError, match=r"^NOETL_RESULT_URL=gs://results: .*noetl-serverless\[gcp\]"):
        await check_results("gs://results", {})


class Refuses(BaseHTTPRequestHandler):
    """S3 to who may do nothing, or whose keys are wrong."""

    code = "AccessDenied"

    def do_GET(self) -> None:
        body = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        return None


class KnowsNobody(Refuses):
    code = "InvalidAccessKeyId"


async def test_wrong_keys_are_reported_and_rights_that_may_do_are_not(keys: dict[str, str]) -> None:
    with serving(KnowsNobody) as url, pytest.raises(RuntimeError, match="InvalidAccessKeyId"):
        await check_results("s3://results", {**keys, "AWS_ENDPOINT_URL": url})
    # who may write and not list is told so of whatever is not there
    with serving(Refuses) as url:
        await check_results("s3://results", {**keys, "AWS_ENDPOINT_URL": url})


async def test_a_folder_of_results_need_not_exist(tmp_path: Path) -> None:
    await check_results((tmp_path / "none").as_uri(), {})


async def test_a_folder_that_cannot_be_written_is_reported_and_nothing_is_left_in_one_that_can(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("/proc/x", tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            RuntimeError, match=rf"^NOETL_RESULT_URL=file://{folder}: no file can be made in the folder"
        ):
            await check_results(f"file://{folder}", {})
    await check_results(f"file://{tmp_path}/new/folder", {})
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("file://relative/dir", f"write file://{Path.cwd()}/relative/dir"),
        ("relative", f"write file://{Path.cwd()}/relative"),
        ("file://", "write file:///folder"),
        ("file:///tmp/r/?x=1#y", "write the URL without"),
        ("file:///tmp/r#", "write the URL without"),
        ("s3://bucket/prefix?region=x", "write the URL without"),
        ("memory://x", "write file:///folder"),
        ("ftp://host/x", "write file:///folder"),
        ("file:///", "the root is no folder"),
    ],
)
async def test_a_url_that_names_no_lasting_store_is_refused_with_what_to_write(url: str, advice: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        await check_results(url, {})
    assert str(caught.value).startswith(f"NOETL_RESULT_URL={url}: ") and advice in str(caught.value)


async def test_a_password_in_the_url_of_results_is_refused_and_not_shown() -> None:
    with pytest.raises(RuntimeError, match=r"^NOETL_RESULT_URL=s3://bucket/x: .* no password") as caught:
        await check_results("s3://me:hidden@bucket/x", {})
    assert "hidden" not in str(caught.value)
