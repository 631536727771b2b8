from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.json_schema import validate_schema
from noetl_serverless.playbook.json_schema.rules import MAX_FAULTS


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"propertis": {}}, "/propertis", "did you mean 'properties'?"),
        ({"type": "strin"}, "/type", "one of string"),
        ({"type": []}, "/type", "one of string"),
        ({"type": ["string", "string"]}, "/type", "one of string"),
        ({"required": "a"}, "/required", "a list of different strings"),
        ({"enum": []}, "/enum", "at least one value"),
        ({"allOf": []}, "/allOf", "at least one schema"),
        ({"minLength": -1}, "/minLength", "a whole number from 0"),
        ({"minLength": True}, "/minLength", "a whole number from 0"),
        ({"multipleOf": 0}, "/multipleOf", "above 0"),
        ({"properties": {"a": 3}}, "/properties/a", "a schema"),
        ({"properties": []}, "/properties", "an object whose values are schemas"),
        ({"writeOnly": "yes"}, "/writeOnly", "true or false"),
        ({"definitions": {}}, "/definitions", "use $defs"),
        ({"nullable": True}, "/nullable", "'null'"),
        ({"$id": "http://example.com/x"}, "/$id", "cannot be used"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema", "2020-12"),
        ({"not": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}, "/not/$schema", "only at the root"),
        ({"$ref": "https://example.com/schema.json"}, "/$ref", "never loaded"),
        ({"$ref": "other.json#/a"}, "/$ref", "never loaded"),
        ({"$ref": "#name"}, "/$ref", "not a place in this schema"),
        ({"$ref": "#/$defs/adress", "$defs": {"address": {}}}, "/$ref", "did you mean '#/$defs/address'?"),
        ({"$ref": "#/properties", "properties": {}}, "/$ref", "no schema at"),
        ({"$ref": "#"}, "", "leads back to itself"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "/$defs/a", "leads back to itself"),
        ({"pattern": "(?=a)"}, "/pattern", "lookaround"),
        ({"pattern": r"(a)\1"}, "/pattern", "backreferences"),
        ({"pattern": "["}, "/pattern", "cannot be used"),
        ({"pattern": "a" * 1001}, "/pattern", "1,001 characters"),
        ({"pattern": "(.{1,500}){1,2}x"}, "/pattern", "repetitions"),
        ({"patternProperties": {"(?!a)": {}}}, "/patternProperties/(?!a)", "lookaround"),
        ({"description": "x" * 70_000}, "", "bytes of JSON"),
        (3, "", "a schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_place(schema: Any, pointer: str, words: str) -> None:
    found = validate_schema(schema)
    assert [fault.pointer for fault in found][:1] == [pointer]
    assert words in found[0].message


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"not": schema}
    assert "nested deeper" in validate_schema(schema)[0].message


def test_a_schema_may_use_itself_for_parts_of_a_value() -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    assert validate_schema(tree) == []


def test_extensions_and_annotations_are_allowed() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "t",
        "format": "date",
        "examples": [1],
        "x-order": {"anything": [1]},
    }
    assert validate_schema(schema) == []


def test_faults_of_a_schema_are_bounded_in_number() -> None:
    assert len(validate_schema({"properties": {f"p{n}": {"type": "x"} for n in range(100)}})) == MAX_FAULTS
