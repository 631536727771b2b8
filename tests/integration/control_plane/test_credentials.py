from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client

SECRET = "s3cret-word"
BODY = {"name": "wh", "type": "postgres", "data": {"password": SECRET}, "tags": "a, b"}


async def test_the_secret_is_for_workers_and_operators_alone(user: Client, worker: Client) -> None:
    stored = await user.post("/api/credentials", BODY)
    assert (stored.status, stored.json["data"], stored.json["tags"]) == (200, None, ["a", "b"])
    assert (await user.get("/api/credentials/wh")).json["data"] is None
    refused = await user.get("/api/credentials/wh", include_data="true")
    assert (refused.status, refused.json["detail"].partition(",")[0]) == (
        403,
        "the data of credentials is not available through a gateway",
    )
    for allowed in (worker, user.of("operator")):
        found = await allowed.get("/api/credentials/wh", include_data="true")
        assert found.json["data"] == {"password": SECRET}
        assert (await allowed.get("/api/credentials/wh")).json["data"] is None


async def test_a_list_never_has_secrets_and_can_be_narrowed(user: Client) -> None:
    await user.post("/api/credentials", BODY)
    await user.post("/api/credentials", {"name": "other", "credential_type": "bearer", "data": {}})
    listed = await user.get("/api/credentials", type="postgres")
    assert [item["name"] for item in listed.json["items"]] == ["wh"]
    assert SECRET not in listed.body.decode()
    assert [item["name"] for item in (await user.get("/api/credentials", q="oth")).json["items"]] == ["other"]


async def test_a_deleted_credential_is_gone(user: Client) -> None:
    stored = await user.post("/api/credentials", BODY)
    gone = await user.delete(f"/api/credentials/{stored.json['id']}")
    assert gone.json == {"status": "deleted", "name": "wh"}
    assert (await user.get("/api/credentials/wh")).status == 404
    assert (await user.delete("/api/credentials/wh")).status == 404


@pytest.mark.parametrize(
    "wrong", [{"data": SECRET}, {"name": ""}, {"name": "a/b"}, {"surprise": SECRET}, {"meta": SECRET}]
)
async def test_a_refusal_does_not_repeat_what_was_sent(user: Client, wrong: dict[str, Any]) -> None:
    answer = await user.post("/api/credentials", {**BODY, **wrong})
    assert answer.status == 400
    assert SECRET not in answer.body.decode()


async def test_nothing_secret_is_logged(user: Client, worker: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await user.post("/api/credentials", BODY)
    await user.post("/api/credentials", {**BODY, "tags": 5})
    await worker.get("/api/credentials/wh", include_data="true", execution_id="77")
    read = [record for record in caplog.records if getattr(record, "operation", "") == "readCredentialData"]
    assert [(r.subject, r.credential, r.execution_id) for r in read] == [("test-worker", "wh", "77")]  # type: ignore[attr-defined]
    assert SECRET not in "".join(str(vars(record)) for record in caplog.records)


async def test_an_unknown_field_of_a_known_type_is_refused_and_an_unknown_type_gets_a_warning(user: Client) -> None:
    refused = await user.post("/api/credentials", {"name": "x", "type": "bearer", "data": {"tokn": SECRET}})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, "/data/tokn")
    assert "did you mean 'token'?" in refused.json["detail"] and SECRET not in refused.body.decode()
    assert (await user.get("/api/credentials/x")).status == 404
    assert (await user.post("/api/credentials", BODY)).json["warnings"] == []
    stored = await user.post("/api/credentials", {"name": "y", "type": "vault", "data": {"any": SECRET}})
    assert (stored.status, len(stored.json["warnings"])) == (200, 1)
