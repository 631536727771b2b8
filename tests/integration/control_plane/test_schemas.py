"""The schemas of a playbook, as requests meet them."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Client

SCHEMAS = """\
schemas:
  input:
    properties:
      a: {type: object, properties: {b: {type: integer}}}
      token: {type: string, x-secret: true, minLength: 8}
    required: [token]
"""


@pytest.fixture
async def declared(user: Client, playbook: str) -> dict[str, Any]:
    answer = await user.post("/api/catalog/register", {"content": playbook.replace("workflow:", f"{SCHEMAS}workflow:")})
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


async def test_a_start_that_does_not_fit_starts_nothing(user: Client, declared: dict[str, Any]) -> None:
    answer = await user.post("/api/execute", {"path": "demo/two", "payload": {"a": {"b": "x"}, "token": "hunter2"}})
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json["code"] == "input.invalid"
    assert answer.json["errors"] == [
        {
            "code": "input.invalid",
            "message": '/a/b: this must be an integer, not "x"',
            "pointer": "/payload/a/b",
            "expected": "an integer",
            "given": '"x"',
        },
        {
            "code": "input.invalid",
            "message": "/token: this must be a string whose number of characters is at least 8, not 7",
            "pointer": "/payload/token",
            "expected": "a string whose number of characters is at least 8",
            "given": "7",
        },
    ]
    assert (await user.get("/api/executions")).json == []
    assert (
        await user.post("/api/execute", {"path": "demo/two", "payload": {"token": "longer than that"}})
    ).status == 200


async def test_a_rerun_is_compared_too(user: Client, declared: dict[str, Any]) -> None:
    payload = {"token": "longer than that"}
    started = (await user.post("/api/execute", {"path": "demo/two", "payload": payload})).json["execution_id"]
    again = await user.post(f"/api/executions/{started}/rerun", {"payload": {"a": 1}})
    assert (again.status, again.json["errors"][0]["pointer"]) == (422, "/payload/a")


async def test_a_schema_that_cannot_be_used_is_refused_with_its_line(user: Client, playbook: str) -> None:
    faulty = playbook.replace(
        "workflow:", SCHEMAS.replace("x-secret: true", "$ref: 'http://example.com'") + "workflow:"
    )
    answer = await user.post("/api/catalog/register", {"content": faulty})
    [fault] = answer.json["errors"]
    assert (answer.status, fault["code"], fault["pointer"], fault["line"]) == (
        422,
        "playbook.schema",
        "/schemas/input/properties/token/$ref",
        9,
    )
    assert "never loaded" in fault["message"]


async def test_the_form_of_a_playbook_has_the_original_s_shape(user: Client, declared: dict[str, Any]) -> None:
    form = (await user.get("/api/catalog/demo/two/ui_schema")).json
    assert (form["path"], form["version"], form["kind"], form["title"]) == ("demo/two", 1, "playbook", "two")
    first, token = form["fields"]
    assert (first["name"], first["kind"], first["default"]) == ("a", "object", {"b": 1, "c": 2})
    assert [(child["name"], child["kind"], child["default"]) for child in first["children"]] == [
        ("b", "integer", 1),
        ("c", "integer", 2),
    ]
    assert (token["kind"], token["secret"], token["required"]) == ("string", True, True)
    assert form["input_schema"]["required"] == ["token"]


async def test_a_form_is_of_one_version(user: Client, playbook: str, declared: dict[str, Any]) -> None:
    await user.post("/api/catalog/register", {"content": playbook.replace("{b: 1, c: 2}", "text")})
    newest = (await user.get("/api/catalog/demo/two/ui_schema")).json
    assert [(field["name"], field["kind"]) for field in newest["fields"]] == [("a", "string")]
    first = (await user.get("/api/catalog/demo/two/ui_schema?version=1")).json
    assert len(first["fields"]) == 2
    assert (await user.get("/api/catalog/demo/nothing/ui_schema")).status == 404
    assert (await user.get("/api/catalog/demo/two/ui_schema?version=0")).status == 400


async def test_what_a_step_gives_to_a_playbook_of_the_catalog_is_compared_at_registration(
    user: Client, declared: dict[str, Any]
) -> None:
    text = (
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: caller, path: demo/caller}\nworkflow:\n"
        "  - {step: call, tool: {kind: playbook, path: demo/two, input: {token: short}}}\n"
    )
    [warning] = (await user.post("/api/catalog/register", {"content": text})).json["warnings"]
    assert (warning["code"], warning["line"]) == ("playbook.unfit_value", 5)
    assert "short" not in warning["message"]
