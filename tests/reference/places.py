"""Where the keys of the language stand in the text of a playbook, found by walking it along the JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from noetl_serverless.playbook import grammar, keychain
from noetl_serverless.playbook.schema import playbook_schema
from noetl_serverless.tools import registry

ROOT: Final = "Playbook"
TOOL: Final = "Tool"
_TOOLS: Final = "tool."
_DEFS: Final = "#/$defs/"
# how each entry of a keychain, and each trigger, is called in the schema -> its kind
_KIND_OF_ENTRY: Final = {
    "SecretManagerEntry": "secret_manager",
    "OAuth2Entry": "oauth2",
    "GoogleIdTokenEntry": "google_id_token",
    "GoogleAccessTokenEntry": "google_access_token",
    "BearerEntry": "bearer",
    "StaticEntry": "static",
    "CredentialEntry": "credential",
    "CallbackEntry": "callback",
    "WebhookTrigger": "webhook",
    "ObjectTrigger": "object",
    "MessageTrigger": "message",
    "PlaybookTrigger": "playbook",
}

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A key with its value in the mapping that holds it. `under` is the key of that mapping, None for an item of a
    list, and "" for the document itself."""

    row: str
    key: yaml.ScalarNode
    value: yaml.Node
    holder: yaml.MappingNode
    under: str | None

    @property
    def word(self) -> str | None:
        return str(self.value.value) if isinstance(self.value, yaml.ScalarNode) else None


def definitions_in(schema: Schema) -> list[str]:
    """The definitions that a value of `schema`, or each of its items, may be an object of."""
    if "$ref" in schema:
        return [str(schema["$ref"]).removeprefix(_DEFS)]
    options = [option for key in ("anyOf", "oneOf") for option in schema.get(key, ())]
    items = schema.get("items")
    found = [name for option in options for name in definitions_in(option)]
    return list(dict.fromkeys([*found, *(definitions_in(items) if isinstance(items, Mapping) else ())]))


class Language:
    """The definitions of the schema, and the rows of their keys, named as tests/conformance/rows.py does."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = {ROOT: schema, **schema["$defs"]}

    def keys(self, definition: str) -> dict[str, Schema]:
        """The keys of a definition; for a kind of tool, only those that are its own."""
        keys: dict[str, Schema] = dict(self.definitions[definition].get("properties", {}))
        if is_kind(definition):
            common = self.definitions[TOOL]["properties"]
            return {key: field for key, field in keys.items() if key not in common}
        return keys

    def places(self, text: str) -> Iterator[Place]:
        """Of the keys in a playbook; keys that the schema does not know, such as older ones, are left out."""
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
        yield from self._in(root, ROOT, ROOT, "")

    def _in(self, node: yaml.Node | None, definition: str, rows: str, under: str | None) -> Iterator[Place]:
        if not isinstance(node, yaml.MappingNode):
            return
        definition = _of_kind(node) if definition == TOOL else definition
        fields = self.definitions.get(definition, {}).get("properties", {})
        own = self.keys(definition) if definition in self.definitions else {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value not in fields:
                continue
            row = f"{rows_of(definition, rows) if key.value in own else TOOL}.{key.value}"
            yield Place(row, key, value, node, under)
            targets = [name for name in definitions_in(fields[key.value]) if name in self.definitions]
            items = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for item in items:
                if item is not value and isinstance(item, yaml.ScalarNode):
                    # one word of several
                    yield Place(row, key, item, node, under)
                if target := _chosen(targets, item):
                    yield from self._in(item, target, row, key.value if item is value else None)


def language() -> Language:
    """With the kinds of tools that are a part of it, whatever else is installed."""
    kinds = [kind for kind in registry.kinds() if kind in grammar.BUILTIN_KINDS]
    return Language(playbook_schema({kind: registry.schema(kind) for kind in kinds}))


def is_kind(definition: str) -> bool:
    """Whether it is a kind of tool, and not a part of one."""
    return definition.startswith(_TOOLS) and definition.count(".") == 1


def is_entry(definition: str) -> bool:
    """Whether it is an entry of the keychain, or a trigger."""
    return definition in _KIND_OF_ENTRY


def rows_of(definition: str, holder: str) -> str:
    """What the rows of its keys begin with; `holder` is the row of the key whose value it is."""
    if is_kind(definition):
        return definition.removeprefix(_TOOLS)
    return holder if definition.startswith(_TOOLS) else definition


def _of_kind(node: yaml.MappingNode) -> str:
    kinds = [value.value for key, value in node.value if key.value == "kind"]
    return f"{_TOOLS}{kinds[0]}" if kinds else TOOL


def _chosen(targets: list[str], node: yaml.Node) -> str | None:
    entries = [name for name in targets if is_entry(name)]
    if not entries:
        return next((name for name in targets if name not in ("Duration", "Template", "Expression")), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    kind = keychain.kind_of({key.value: value.value for key, value in node.value})
    return next((name for name in entries if _KIND_OF_ENTRY[name] == kind), None)
