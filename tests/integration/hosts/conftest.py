"""Stand-in functions, which answer and do nothing, and another user to run as."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

TABLE = """
direct: {secrets: [database_url], settings: [orchestrator]}
functions:
  control_plane: {source: control_plane, entry_point: function, role: control_plane, memory_mb: 128, timeout_s: 10,
    concurrency: 1, triggers: [{kind: http}],
    secrets: [database_url, nats_url, service_token, token_key, encryption_keys]}
  reconciler: {source: reconciler, entry_point: function, role: reconciler, memory_mb: 128, timeout_s: 10,
    concurrency: 1, triggers: [{kind: schedule, every_s: 0.1}, {kind: queue}],
    secrets: [database_url, service_token], settings: [function_urls]}
  worker: {source: worker, entry_point: function, role: worker, memory_mb: 128, timeout_s: 10, concurrency: 1,
    triggers: [{kind: queue}], pool: shared, secrets: [nats_url, service_token], settings: [control_plane_url]}
"""
MAIN = """
import asyncio, contextlib, os, urllib.request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from noetl_serverless.hosts.assembly.service import Service
from noetl_serverless.hosts.http.framework import serve

invoked = []
# a process that serves several functions has each one's variables only while it is loaded
environment = dict(os.environ)

async def ready(request):
    return JSONResponse({"pid": os.getpid(), "environment": environment})

async def receive(request):
    invoked.append(request.headers.get("authorization"))
    return JSONResponse({})

async def count(request):
    return JSONResponse({"invoked": len(invoked), "token": invoked[-1] if invoked else None})

@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    if url := environment.get("NOETL_CONTROL_PLANE_URL"):
        with contextlib.suppress(OSError):
            await asyncio.to_thread(urllib.request.urlopen, url + "/readyz", timeout=5)
            print("heard to the last", flush=True)
    print("ended politely", flush=True)

app = Starlette(lifespan=lifespan, routes=[Route("/readyz", ready), Route("/", receive, methods=["POST"]),
    Route("/count", count), Route("/api/credentials", receive, methods=["POST"])])
function = serve(Service(app, ()))
"""


@pytest.fixture
def functions(data_dir: Path) -> Path:
    """A folder like the project's functions/, of stand-ins."""
    folder = data_dir / "functions"
    folder.mkdir()
    (folder / "functions.yaml").write_text(TABLE)
    for name in ("control_plane", "reconciler", "worker"):
        (folder / name).mkdir()
        (folder / name / "main.py").write_text(MAIN)
    return folder


@pytest.fixture
def as_user() -> Callable[[int, int, Callable[[], None]], None]:
    """(uid, gid, work): run `work` as another user, in a fork of this process.

    What it imports must be imported already: the interpreter's own files may be closed to that user.
    """
    return _as_user


def _as_user(uid: int, gid: int, work: Callable[[], None]) -> None:
    """AssertionError with the traceback if `work` raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        status = 1
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            work()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as said:
        message = said.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, message
