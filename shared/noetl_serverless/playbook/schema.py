"""The JSON Schema of the language, for editors."""

from __future__ import annotations

from typing import Any

from . import grammar
from .model import Playbook

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER = "urn:noetl:playbook:v2"


def playbook_schema(kinds: frozenset[str] = grammar.BUILTIN_KINDS) -> dict[str, Any]:
    """JSON Schema 2020-12. What a kind of tool takes beside the common keys is described by the tool itself."""
    schema = Playbook.model_json_schema(by_alias=True)
    schema["$defs"]["Tool"]["properties"]["kind"]["enum"] = sorted(kinds)
    return {"$schema": DIALECT, "$id": IDENTIFIER, **schema, "title": "NoETL playbook"}
