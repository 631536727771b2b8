"""Functions that answer and do nothing, in place of the real ones: what a stack is tried with."""

from __future__ import annotations

from pathlib import Path

TABLE = """
functions:
  control_plane: {source: control_plane, entry_point: function, role: control_plane, memory_mb: 128, timeout_s: 10,
    concurrency: 1, triggers: [{kind: http}],
    secrets: [database_url, nats_url, service_token, token_key, encryption_keys]}
  reconciler: {source: reconciler, entry_point: function, role: reconciler, memory_mb: 128, timeout_s: 10,
    concurrency: 1, triggers: [{kind: schedule, every_s: 0.1}, {kind: ring}],
    secrets: [database_url, service_token], settings: [function_urls]}
  worker: {source: worker, entry_point: function, role: worker, memory_mb: 128, timeout_s: 10, concurrency: 1,
    triggers: [{kind: ring}], pool: shared, secrets: [nats_url, service_token], settings: [control_plane_url]}
"""
MAIN = """
import contextlib, os
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from noetl_serverless.hosts.functions_framework_app import serve

rung = []

async def ready(request):
    return JSONResponse({"pid": os.getpid(), "environment": dict(os.environ)})

async def ring(request):
    rung.append(request.headers.get("authorization"))
    return JSONResponse({})

async def count(request):
    return JSONResponse({"rung": len(rung), "token": rung[-1] if rung else None})

@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    print("ended politely", flush=True)

app = Starlette(lifespan=lifespan, routes=[Route("/readyz", ready), Route("/", ring, methods=["POST"]),
    Route("/count", count), Route("/api/credentials", ring, methods=["POST"])])
function = serve(app)
"""


def write_functions(folder: Path) -> Path:
    folder.mkdir()
    (folder / "functions.yaml").write_text(TABLE)
    for name in ("control_plane", "reconciler", "worker"):
        (folder / name).mkdir()
        (folder / name / "main.py").write_text(MAIN)
    return folder
