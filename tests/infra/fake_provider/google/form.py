"""Configuration and state as the objects of Google's APIs, by the provider's schema.

The real provider is generated from the same APIs: a name in snake case is the API's in camel case, a block that may
stand once is an object. What is otherwise is named: `names` says what the API calls a path,
`{"replication.auto": "automatic"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..given import Given
from ..values import Block

Names = Mapping[str, str]


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def api_name(path: str, names: Names) -> str:
    return names.get(path) or camel(path.rpartition(".")[2])


def encode(block: Block, want: Given, names: Names, within: str = "", skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """What of a configuration is the API's; without what is empty, but with false and 0."""
    body: dict[str, Any] = {}
    for name, attribute in block["attributes"].items():
        if name in skip or not (attribute.get("optional") or attribute.get("required")):
            continue
        value = want[name]
        if value not in (None, "", [], {}) or value is False or value == 0:
            body[api_name(f"{within}{name}", names)] = value
    for name, nested in block["blocks"].items():
        if name in skip or nested["nesting"] == "single":
            continue
        objects = [encode(nested["block"], one, names, f"{within}{name}.") for one in want.blocks(name)]
        if objects:
            body[api_name(f"{within}{name}", names)] = objects[0] if nested.get("max") == 1 else objects
    return body


def decode(block: Block, found: Mapping[str, Any], names: Names, within: str = "") -> dict[str, Any]:
    """An object of the API as a state; None where it has nothing."""
    state: dict[str, Any] = {}
    for name, attribute in block["attributes"].items():
        state[name] = value_of(attribute["type"], found.get(api_name(f"{within}{name}", names)))
    for name, nested in block["blocks"].items():
        if nested["nesting"] == "single":
            continue
        value = found.get(api_name(f"{within}{name}", names))
        objects = [] if value is None else value if isinstance(value, list) else [value]
        state[name] = [decode(nested["block"], one, names, f"{within}{name}.") for one in objects]
    return state


def differs(block: Block, name: str, new: Any, old: Any) -> bool:
    """Whether an argument is no more what it was. What only the API will tell counts as unchanged."""
    if name in block["blocks"]:
        inner = block["blocks"][name]["block"]
        before, after = old or [], new or []
        return len(before) != len(after) or any(
            differs(inner, member, one.get(member), other.get(member))
            for one, other in zip(after, before, strict=True)
            for member in (*inner["attributes"], *inner["blocks"])
        )
    if new is None and block["attributes"][name].get("computed"):
        return False
    return bool((new or None) != (old or None))


def value_of(kind: Any, value: Any) -> Any:
    """A value of the API in the provider's type: 64-bit numbers are texts in JSON."""
    match kind:
        case _ if value is None:
            return None
        case "string":
            return value if isinstance(value, str) else str(value)
        case "number":
            return _number(value)
        case ["list" | "set", inner]:
            return [value_of(inner, one) for one in (value if isinstance(value, list) else [value])]
        case ["map", inner]:
            return {key: value_of(inner, one) for key, one in value.items()}
        case ["object", members]:
            return {name: value_of(inner, value.get(camel(name))) for name, inner in members.items()}
        case _:
            return value


def _number(value: Any) -> Any:
    if isinstance(value, str):
        value = float(value) if "." in value else int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
