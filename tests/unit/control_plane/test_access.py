"""Least privilege, written out: which role may call what."""

from __future__ import annotations

from noetl_serverless.control_plane.routes import OPERATIONS

WORKER = {
    "claimCommands",
    "reportOutcomes",
    "heartbeat",
    "getCredential",
    "acquireSecret",
    "storeSecret",
    "createCallback",
    "getPlanText",
    "getManifest",
    "claimArchive",
    "readArchiveExecutions",
    "readArchiveEvents",
    "extendArchive",
    "failArchive",
    "registerArchive",
    *("putObject", "readObject", "beginObject", "putObjectChunk", "readObjectChunk", "finishObject"),
    *("registerRuntime", "heartbeatRuntime", "deregisterRuntime", "deregisterRuntimeByPost"),
}
NOT_FOR_USERS = {
    *("claimCommands", "reportOutcomes", "heartbeat", "getPlanText", "rebuildProjections", "archiveNow"),
    *("acquireSecret", "storeSecret", "createCallback"),
    *("queryViews", "createGoogleToken"),
    *(name for name in WORKER if "Archive" in name or "Object" in name),
}


def allowed(role: str) -> set[str]:
    return {operation.name for operation in OPERATIONS if role in operation.roles}


def test_a_worker_may_do_its_work_and_nothing_else() -> None:
    assert allowed("worker") == WORKER


def test_the_gateway_may_do_what_users_may() -> None:
    assert allowed("gateway") == {operation.name for operation in OPERATIONS} - NOT_FOR_USERS


def test_the_reconciler_needs_no_route() -> None:
    assert allowed("reconciler") == set()


def test_an_operator_may_do_everything() -> None:
    assert allowed("operator") == {operation.name for operation in OPERATIONS}
