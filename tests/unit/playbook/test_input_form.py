from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.input_form import MAX_FIELDS, FormField, input_form, result_form, takes_only_text
from noetl_serverless.playbook.json_schema import validate_schema

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "region": {"enum": ["eu", "us"], "description": "Where"},
        "token": {"$ref": "#/$defs/token"},
        "limits": {"allOf": [{"properties": {"low": {"type": ["integer", "null"]}}, "required": ["low", "high"]}]},
        "any": {},
        "auth": {"type": "string", "x-credential": "pg_*"},
    },
    "required": ["region", "token"],
    "$defs": {"token": {"type": "string", "writeOnly": True}},
}


def by_name(fields: list[FormField]) -> dict[str, FormField]:
    return {field.name: field for field in fields}


def test_a_form_has_what_the_schema_and_the_defaults_say() -> None:
    assert validate_schema(SCHEMA) == []
    fields = by_name(input_form({"region": "eu", "token": "hunter2", "limits": {"low": 1}, "more": [1]}, SCHEMA))
    assert list(fields) == ["region", "token", "limits", "any", "auth", "more"]
    region, token, limits = fields["region"], fields["token"], fields["limits"]
    assert (region.kind, region.options, region.default, region.required, region.description) == (
        "enum",
        ["eu", "us"],
        "eu",
        False,
        "Where",
    )
    assert (token.kind, token.secret, token.default) == ("string", True, None)
    assert [(child.name, child.kind, child.default) for child in limits.children or []] == [("low", "integer", 1)]
    assert (limits.kind, fields["any"].kind, fields["more"].kind) == ("object", "any", "array")
    assert fields["auth"].credential_glob == "pg_*"
    assert input_form({}, SCHEMA)[0].required


@pytest.mark.parametrize(
    ("schema", "default", "shown"),
    [
        (
            {"properties": {"user": {}, "password": {"x-secret": True}}},
            {"user": "u", "password": "hunter2"},
            {"user": "u"},
        ),
        ({"items": {"writeOnly": True}}, ["hunter2"], None),
        ({"prefixItems": [{"type": "string"}, {"$ref": "#/$defs/key"}]}, ["a", "hunter2"], None),
        ({"items": {"properties": {"k": {"$ref": "#/$defs/key"}}}}, [{"k": "hunter2", "n": 1}], [{"n": 1}]),
        ({"additionalProperties": {"x-secret": True}}, {"a": "hunter2"}, {}),
        ({"patternProperties": {"^p": {"x-secret": True}}}, {"p": "hunter2"}, {}),
        (
            {"properties": {"a": {"properties": {"b": {"writeOnly": True}}}}},
            {"a": {"b": "hunter2", "c": 1}},
            {"a": {"c": 1}},
        ),
        ({"anyOf": [{"properties": {"p": {"x-secret": True}}}, {"type": "null"}]}, {"p": "hunter2"}, {}),
        ({"properties": {"a": {}}}, {"a": None, "b": [None, 1]}, {"a": None, "b": [None, 1]}),
    ],
)
def test_of_a_default_what_is_secret_inside_of_it_is_not_shown(schema: Any, default: Any, shown: Any) -> None:
    root = {"properties": {"v": schema}, "$defs": {"key": {"writeOnly": True}}}
    assert validate_schema(root) == []
    (field,) = input_form({"v": default}, root)
    assert field.default == shown
    assert "hunter2" not in repr(field)


def test_what_stands_deeply_in_a_default_is_not_shown() -> None:
    value: Any = "hunter2"
    for _ in range(1000):
        value = [value]
    (field,) = input_form({"v": value}, None)
    assert field.default is None


def test_without_a_schema_a_form_has_the_defaults() -> None:
    values = {"s": "", "b": False, "i": 0, "n": 0.5, "o": {"x": None}, "a": []}
    fields = by_name(input_form(values, None))
    kinds = ["string", "boolean", "integer", "number", "object", "array"]
    assert [(field.kind, field.default) for field in fields.values()] == list(zip(kinds, values.values(), strict=True))
    assert [child.kind for child in fields["o"].children or []] == ["null"]


def test_a_schema_that_uses_itself_has_a_form_that_ends() -> None:
    names = {f"n{number}": {"$ref": "#"} for number in range(20)}
    schema = {"type": "object", "properties": names}

    def count(fields: list[FormField]) -> int:
        return sum(1 + count(field.children or []) for field in fields)

    assert count(input_form({}, schema)) <= MAX_FIELDS


def test_a_result_is_a_field_of_its_own() -> None:
    field = result_form(
        {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "null"}}}
    )
    assert [(child.name, child.kind) for child in field.children or []] == [("n", "null")]


def test_what_has_to_be_text() -> None:
    assert takes_only_text(SCHEMA, ["token"])
    assert takes_only_text(SCHEMA, ["region"])
    assert not takes_only_text(SCHEMA, ["limits", "low"])
    assert not takes_only_text(SCHEMA, ["nothing", "here"])
