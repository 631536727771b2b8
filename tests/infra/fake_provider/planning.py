"""What will stand after a change, as far as it is known before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .resource import Resource
from .values import UNKNOWN, Block


def served(block: Block, resource: Resource[Any, Any]) -> Block:
    """The provider's schema; what has a default is computed, since the fake provider may fill it."""
    attributes = {
        name: {**attribute, "computed": True} if name in resource.defaults else attribute
        for name, attribute in block["attributes"].items()
    }
    return {**block, "attributes": attributes}


def plan(
    resource: Resource[Any, Any],
    block: Block,
    config: Mapping[str, Any],
    prior: Mapping[str, Any] | None,
    complete: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The planned state. `complete` adds what the provider gives to every resource."""
    planned = _fill(block, config, prior, resource.defaults)
    complete(planned)
    if prior is not None:
        for name in _unchanged_texts(resource, planned, prior):
            planned[name] = prior[name]
        if planned != prior:
            for name in resource.volatile:
                planned[name] = UNKNOWN
    return planned


def replaced(resource: Resource[Any, Any], planned: Mapping[str, Any], prior: Mapping[str, Any] | None) -> list[str]:
    """The attributes whose change makes a new one."""
    if prior is None:
        return []
    return [name for name in resource.replace if planned[name] != prior[name]]


def settle(
    resource: Resource[Any, Any], block: Block, found: Mapping[str, Any], expected: Mapping[str, Any]
) -> dict[str, Any]:
    """The state, from what the cloud has, in the words of what was planned or known before.

    `expected` tells what the configuration leaves to the cloud without the provider following it: null there stays
    null.
    """
    state: dict[str, Any] = {}
    for name, attribute in block["attributes"].items():
        known, value = expected.get(name), found.get(name)
        if name in resource.kept or name in resource.local:
            state[name] = value if known is UNKNOWN else known
        elif known is None and not attribute.get("computed"):
            state[name] = None
        elif known is not UNKNOWN and (resource.same(name, known, value) or _is_forgotten(resource, name, value)):
            state[name] = known
        else:
            state[name] = value
    for name, nested in block["blocks"].items():
        value = expected.get(name) if _is_forgotten(resource, name, found.get(name)) else found.get(name)
        state[name] = _settle_blocks(nested, value, expected.get(name))
    return state


def _is_forgotten(resource: Resource[Any, Any], name: str, value: Any) -> bool:
    return name in resource.forgotten and value in (None, "", [], {}, False, 0)


def _settle_blocks(nested: Block, found: Any, expected: Any) -> Any:
    if nested["nesting"] == "single":
        # only the time limits of operations, which are Terraform's own affair
        return expected
    if not expected:
        return []
    if found is None:
        return []
    settled = []
    for index, value in enumerate(found):
        known = expected[index] if index < len(expected) and nested["nesting"] == "list" else None
        settled.append(_settle_block(nested["block"], value, known))
    return settled


def _settle_block(block: Block, found: Mapping[str, Any], expected: Mapping[str, Any] | None) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, attribute in block["attributes"].items():
        leaves_open = expected is not None and expected.get(name) is None and not attribute.get("computed")
        state[name] = None if leaves_open else found.get(name)
    for name, nested in block["blocks"].items():
        inner = found.get(name)
        if nested["nesting"] == "single":
            state[name] = inner
            continue
        known = None if expected is None else expected.get(name)
        if expected is not None and not known:
            state[name] = []
            continue
        state[name] = [
            _settle_block(
                nested["block"], value, known[i] if known and nested["nesting"] == "list" and i < len(known) else None
            )
            for i, value in enumerate(inner or [])
        ]
    return state


def _fill(
    block: Block, config: Mapping[str, Any], prior: Mapping[str, Any] | None, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name, attribute in block["attributes"].items():
        value = config.get(name)
        if value is None and name in defaults:
            value = defaults[name]
        elif value is None and attribute.get("computed"):
            value = UNKNOWN if prior is None else prior.get(name)
        filled[name] = value
    for name, nested in block["blocks"].items():
        filled[name] = _fill_blocks(nested, config.get(name), None if prior is None else prior.get(name))
    return filled


def _fill_blocks(nested: Block, config: Any, prior: Any) -> Any:
    if config is None or config is UNKNOWN:
        return config
    if isinstance(config, dict):
        return _fill(nested["block"], config, prior, {})
    before = prior if isinstance(prior, list) else []
    return [
        _fill(nested["block"], value, _prior_block(nested, value, index, before, len(config)), {})
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


def _unchanged_texts(
    resource: Resource[Any, Any], planned: Mapping[str, Any], prior: Mapping[str, Any]
) -> Iterator[str]:
    for name in resource.json:
        text = planned.get(name)
        if text is not UNKNOWN and text != prior.get(name) and resource.same(name, text, prior.get(name)):
            yield name
