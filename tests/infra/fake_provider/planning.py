"""What will stand after a change, as far as it is known before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .resource import Resource
from .values import UNKNOWN, Block

Type = Resource[Any, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False, 0)


def served(block: Block, resource: Type, within: str = "") -> Block:
    """The provider's schema; what has a default is computed, since the fake provider may fill it."""
    attributes = {
        name: {**attribute, "computed": True} if f"{within}{name}" in resource.defaults else attribute
        for name, attribute in block["attributes"].items()
    }
    blocks = {
        name: {**nested, "block": served(nested["block"], resource, f"{within}{name}.")}
        for name, nested in block["blocks"].items()
    }
    return {**block, "attributes": attributes, "blocks": blocks}


def plan(
    resource: Type,
    block: Block,
    config: Mapping[str, Any],
    prior: Mapping[str, Any] | None,
    complete: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The planned state. `complete` adds what the provider gives to every resource."""
    planned = _fill(resource, block, config, prior, "")
    complete(planned)
    if prior is not None and planned != prior:
        for path in resource.volatile:
            for owner, name in _places(planned, path):
                owner[name] = UNKNOWN
    return planned


def replaced(resource: Type, planned: Mapping[str, Any], prior: Mapping[str, Any] | None) -> list[str]:
    """The arguments whose change makes a new one."""
    if prior is None:
        return []
    changed = [path for path in resource.replace if _values(planned, path) != _values(prior, path)]
    return sorted({path.partition(".")[0] for path in changed})


def settle(resource: Type, block: Block, found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The state, from what the cloud has, in the words of what was planned or known before.

    `expected` tells what the configuration leaves to the cloud without the provider following it: null there stays
    null.
    """
    return _settle(resource, block, found, expected, "")


def _settle(
    resource: Type, block: Block, found: Mapping[str, Any], expected: Mapping[str, Any] | None, within: str
) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, attribute in block["attributes"].items():
        value = found.get(name)
        if expected is None:
            state[name] = value
        else:
            state[name] = _settle_value(resource, attribute, value, expected.get(name), f"{within}{name}")
    for name, nested in block["blocks"].items():
        known = None if expected is None else expected.get(name)
        if nested["nesting"] == "single":
            # only the time limits of operations, which are Terraform's own affair
            state[name] = known
        elif expected is not None and not known and not resource.follows(f"{within}{name}"):
            state[name] = []
        else:
            state[name] = _settle_blocks(resource, nested, found.get(name), known, f"{within}{name}")
    return state


def _settle_value(resource: Type, attribute: Mapping[str, Any], value: Any, known: Any, path: str) -> Any:
    if path in resource.kept or path in resource.local:
        return value if known is UNKNOWN else known
    if known is None and not attribute.get("computed"):
        return value if resource.follows(path) and value not in _EMPTY else None
    if known is not UNKNOWN and (resource.same(path, known, value) or _is_forgotten(resource, path, value)):
        return known
    return value


def _settle_blocks(resource: Type, nested: Block, found: Any, expected: Any, path: str) -> Any:
    if _is_forgotten(resource, path, found):
        return expected
    known = expected or []
    settled = []
    for index, value in enumerate(found or []):
        if not known and resource.follows(path) and all(one in _EMPTY for one in value.values()):
            # the API tells an empty object where there is none
            continue
        before = _counterpart(nested, value, index, known)
        settled.append(_settle(resource, nested["block"], value, before, f"{path}."))
    return settled


def _counterpart(nested: Block, value: Mapping[str, Any], index: int, known: list[Any]) -> Mapping[str, Any] | None:
    """The block of the configuration that one of the cloud is: in a set, the one that agrees in what is required."""
    if nested["nesting"] == "list":
        return known[index] if index < len(known) else None
    required = [name for name, attribute in nested["block"]["attributes"].items() if attribute.get("required")]
    alike = [one for one in known if all(one.get(name) == value.get(name) for name in required)]
    return alike[0] if len(alike) == 1 else None


def _is_forgotten(resource: Type, path: str, value: Any) -> bool:
    return path in resource.forgotten and value in _EMPTY


def _fill(
    resource: Type, block: Block, config: Mapping[str, Any], prior: Mapping[str, Any] | None, within: str
) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name, attribute in block["attributes"].items():
        value = config.get(name)
        if value is None and f"{within}{name}" in resource.defaults:
            value = resource.defaults[f"{within}{name}"]
        elif value is None and attribute.get("computed"):
            value = UNKNOWN if prior is None else prior.get(name)
        elif prior is not None and value is not UNKNOWN and resource.same(f"{within}{name}", value, prior.get(name)):
            # said in other words
            value = prior.get(name)
        filled[name] = value
    for name, nested in block["blocks"].items():
        before = None if prior is None else prior.get(name)
        filled[name] = _fill_blocks(resource, nested, config.get(name), before, f"{within}{name}.")
    return filled


def _fill_blocks(resource: Type, nested: Block, config: Any, prior: Any, within: str) -> Any:
    if config is None or config is UNKNOWN:
        return config
    if isinstance(config, dict):
        return _fill(resource, nested["block"], config, prior, within)
    before = prior if isinstance(prior, list) else []
    return [
        _fill(resource, nested["block"], value, _prior_block(nested, value, index, before, len(config)), within)
        if isinstance(value, dict)
        else value
        for index, value in enumerate(config)
    ]


def _prior_block(
    nested: Block, value: Mapping[str, Any], index: int, before: list[Any], count: int
) -> Mapping[str, Any] | None:
    """What stood before in the place of a block: in a set, the one that agrees in all that the configuration says."""
    if nested["nesting"] == "list":
        return before[index] if len(before) == count else None
    said = {name: one for name, one in value.items() if one is not None and name in nested["block"]["attributes"]}
    return next((one for one in before if all(one.get(name) == this for name, this in said.items())), None)


def _places(state: Mapping[str, Any], path: str) -> list[tuple[Any, str]]:
    """Every object that has the last name of a path, in however many blocks."""
    first, _, rest = path.partition(".")
    if not rest:
        return [(state, first)] if isinstance(state, dict) else []
    inner = state.get(first)
    return [place for one in inner for place in _places(one, rest)] if isinstance(inner, list) else []


def _values(state: Mapping[str, Any], path: str) -> list[Any]:
    return [owner.get(name) for owner, name in _places(state, path)]
