from __future__ import annotations

import json

from noetl_serverless.playbook.grammar import BUILTIN_KINDS
from noetl_serverless.playbook.schema import playbook_schema


def test_it_is_json_and_names_its_dialect() -> None:
    schema = playbook_schema()
    json.dumps(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["apiVersion", "kind", "metadata", "workflow"]
    assert schema["additionalProperties"] is False


def test_keys_are_those_of_the_document() -> None:
    definitions = playbook_schema()["$defs"]
    assert "in" in definitions["Loop"]["properties"]
    assert "else" in definitions["Rule"]["properties"]
    assert set(definitions["Select"]["properties"]) == {"path", "as"}
    assert set(definitions["Tool"]["properties"]["kind"]["enum"]) == BUILTIN_KINDS


def test_every_reference_is_defined() -> None:
    schema = playbook_schema()
    text = json.dumps(schema)
    for name in {part.split('"')[0] for part in text.split("#/$defs/")[1:]}:
        assert name in schema["$defs"]


def test_what_is_not_supported_is_not_in_it() -> None:
    schema = playbook_schema()
    assert "keychain" not in schema["properties"]
