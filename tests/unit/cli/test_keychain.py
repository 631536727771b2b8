from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli.commands import keychain
from noetl_serverless.cli.main import app

ENTRY = {
    "keychain_name": "api",
    "credential_type": "oauth2",
    "scope_type": "global",
    "status": "success",
    "token_data": {"access_token": "***", "token_type": "***"},
    "expires_at": "2026-11-28T01:00:00Z",
    "execution_id": None,
}


class ControlPlane:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((path, body))
        return {"catalog_id": "7"}

    def execution(self, execution_id: str) -> dict[str, Any]:
        return {"catalog_id": "8"}

    def items_from(self, path: str, parameter: str, start: str, **query: Any) -> Iterator[dict[str, Any]]:
        self.calls.append((path, query))
        yield ENTRY

    def delete(self, path: str) -> dict[str, Any]:
        self.calls.append(path)
        return {"status": "deleted", "name": "api", "count": 2}


@pytest.fixture
def control_plane(monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    control_plane = ControlPlane()
    monkeypatch.setattr(keychain, "running_stack", lambda data: nullcontext(control_plane))
    return control_plane


def test_the_secrets_of_a_playbook_are_listed_with_their_fields(control_plane: ControlPlane) -> None:
    done = CliRunner().invoke(app, ["keychain", "list", "team/load", "--version", "3"], env={"COLUMNS": "200"})
    assert control_plane.calls == [
        ("/api/catalog/resource", {"path": "team/load", "version": 3}),
        ("/api/keychain/7", {}),
    ]
    assert done.exit_code == 0 and "api" in done.output and "access_token, token_type" in done.output, done.output


def test_those_of_an_execution_are_found_by_its_playbook(control_plane: ControlPlane) -> None:
    assert CliRunner().invoke(app, ["keychain", "list", "123", "--json"]).exit_code == 0
    assert control_plane.calls == [("/api/keychain/8", {"execution_id": "123"})]


def test_deleted_values_are_counted(control_plane: ControlPlane) -> None:
    assert CliRunner().invoke(app, ["keychain", "delete", "team/load", "api"]).output == (
        "deleted 2 cached values of api\n"
    )
    CliRunner().invoke(app, ["keychain", "delete", "123", "api"])
    paths = [call for call in control_plane.calls if isinstance(call, str)]
    assert paths == ["/api/keychain/7/api", "/api/keychain/8/api?execution_id=123"]
