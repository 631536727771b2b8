from __future__ import annotations

import os
import signal
from pathlib import Path

import nats
import nats.errors
import pytest

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port

PASSWORD = "secret-of-the-test"


def server_in(folder: Path) -> Nats:
    return Nats(folder / "nats", free_port(), PASSWORD, folder / "nats.log")


async def test_a_stream_survives_a_kill(data_dir: Path) -> None:
    server = server_in(data_dir)
    process = server.start()
    client = await nats.connect(server.url, allow_reconnect=False)
    stream = client.jetstream()
    await stream.add_stream(name="kept", subjects=["kept.*"])
    await stream.publish("kept.a", b"x")
    await client.close()
    os.kill(process.pid, signal.SIGKILL)
    process.kill()

    again = server_in(data_dir)
    process = again.start()
    client = await nats.connect(again.url)
    assert (await client.jetstream().stream_info("kept")).state.messages == 1
    await client.close()
    process.stop()


async def test_its_folder_may_have_any_name(data_dir: Path) -> None:
    folder = data_dir / 'd ü" \\n'
    folder.mkdir()
    process = server_in(folder).start()
    process.stop()
    assert (folder / "nats" / "nats.conf").exists()


async def test_it_asks_for_the_password(nats_server: Nats) -> None:
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(nats_server.url.replace(nats_server.password, "wrong"), allow_reconnect=False)


def test_the_password_is_not_in_the_process_list(nats_server: Nats) -> None:
    assert not any(nats_server.password in word for word in nats_server.prepare().argv)
    assert (nats_server.home / "nats.conf").stat().st_mode & 0o077 == 0


def test_two_servers_run_side_by_side(data_dir: Path, nats_server: Nats) -> None:
    other = Nats(data_dir / "nats", free_port(nats_server.port), PASSWORD, data_dir / "nats.log")
    process = other.start()
    assert other.port != nats_server.port
    process.stop()
