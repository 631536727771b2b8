from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.gateway.app import create_app
from noetl_serverless.gateway.control_plane import ControlPlane
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryKeyValue

from .conftest import Client


async def login(call: Client, **body: Any) -> Any:
    answer = await call("POST", "/api/auth/login", {"user": "ann@example.org", **body})
    assert answer.status == 200, answer.body
    return answer.json


async def test_login_opens_a_session_that_works(call: Client) -> None:
    body = await login(call, roles=["viewer"])
    assert body["status"] == "authenticated"
    assert body["user"] == {
        "user_id": "ann@example.org",
        "email": "ann@example.org",
        "display_name": "ann@example.org",
        "roles": ["viewer"],
    }
    assert body["expires_at"].endswith("Z")
    answer = await call("POST", "/graphql", {"query": "{ health }"}, token=body["session_token"])
    assert answer.json == {"data": {"health": "ok"}}


async def test_login_sets_a_cookie_that_scripts_cannot_read(call: Client) -> None:
    answer = await call("POST", "/api/auth/login", {"user": "ann"}, headers={"x-forwarded-proto": "https"})
    cookie = (answer.header("set-cookie") or "").lower()
    assert answer.json["session_token"].lower() in cookie
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" in cookie
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": ""},
        {"user": "a b"},
        {"user": "a\r\nx-noetl-user: root"},
        {"user": 7},
        {"user": "ann", "roles": ["root"]},
        {"user": "ann", "roles": "admin"},
        {"user": "ann", "session_duration_hours": 0},
        {"user": "ann", "session_duration_hours": "long"},
    ],
)
async def test_a_login_that_makes_no_sense_is_refused(call: Client, body: Any) -> None:
    answer = await call("POST", "/api/auth/login", body)
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")


async def test_a_fault_in_a_login_is_pointed_at(call: Client) -> None:
    answer = await call("POST", "/api/auth/login", {"user": "ann", "roles": ["viewer", "root"]})
    assert answer.json["errors"][0]["pointer"] == "/roles/1"


async def test_a_field_that_a_login_does_not_have_is_refused_with_those_that_it_has(call: Client) -> None:
    answer = await call("POST", "/api/auth/login", {"user": "bob", "role": "viewer"})
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert answer.json["detail"] == "There is no field 'role'; there are user, roles, session_duration_hours"


async def test_a_login_has_to_be_json(call: Client) -> None:
    headers = {"content-type": "text/plain"}
    assert (await call("POST", "/api/auth/login", b'{"user": "ann"}', headers=headers)).status == 400
    assert (await call("POST", "/api/auth/login", b"{")).status == 400
    assert (await call("POST", "/api/auth/login", b"[]")).status == 400
    assert (await call("POST", "/api/auth/login", b'{"user": "' + b"a" * 70_000 + b'"}')).status == 413


async def test_without_a_sign_in_nobody_gets_in(values: MemoryKeyValue, control_plane: ControlPlane) -> None:
    call = Client(create_app(Settings(), keyvalue=values, control_plane=control_plane))
    answer = await call("POST", "/api/auth/login", {"user": "ann", "roles": ["admin"]})
    assert answer.status == 404


async def test_validate_returns_whether_a_session_is_valid(call: Client) -> None:
    token = (await login(call))["session_token"]
    answer = await call("POST", "/api/auth/validate", {"session_token": token})
    assert answer.json["valid"] is True
    assert answer.json["user"]["user_id"] == "ann@example.org"
    assert answer.json["expires_at"]
    answer = await call("POST", "/api/auth/validate", {"session_token": "forged"})
    assert (answer.status, answer.json["valid"]) == (200, False)
    assert "user" not in answer.json
    answer = await call("POST", "/api/auth/validate", {}, token=token)
    assert answer.json["valid"] is True


@pytest.mark.parametrize(
    ("role", "permission", "allowed"),
    [("viewer", "view", True), ("viewer", "execute", False), ("editor", "execute", True), ("editor", "edit", True)],
)
async def test_check_access_answers_by_role(call: Client, role: str, permission: str, allowed: bool) -> None:
    token = (await login(call, roles=[role]))["session_token"]
    request = {"session_token": token, "playbook_path": "etl/load", "permission_type": permission}
    answer = await call("POST", "/api/auth/check-access", request)
    assert answer.json["allowed"] is allowed
    assert answer.json["playbook_path"] == "etl/load"
    assert answer.json["permission_type"] == permission


async def test_check_access_allows_nothing_to_a_stranger(call: Client) -> None:
    request = {"session_token": "forged", "playbook_path": "etl/load", "permission_type": "view"}
    answer = await call("POST", "/api/auth/check-access", request)
    assert (answer.status, answer.json["allowed"]) == (200, False)
    request["permission_type"] = "own"
    assert (await call("POST", "/api/auth/check-access", request)).status == 400


async def test_logout_ends_the_session(call: Client) -> None:
    token = (await login(call))["session_token"]
    answer = await call("POST", "/api/auth/logout", {}, token=token)
    assert answer.json["status"] == "logged_out"
    assert (await call("POST", "/graphql", {"query": "{ health }"}, token=token)).status == 401


async def test_a_foreign_page_cannot_sign_one_out(call: Client) -> None:
    token = (await login(call))["session_token"]
    headers = {"origin": "https://evil.example"}
    assert (await call("POST", "/api/auth/logout", {}, cookie=token, headers=headers)).status == 403
    assert (await call("POST", "/graphql", {"query": "{ health }"}, token=token)).status == 200
