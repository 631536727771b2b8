"""Labels and annotations: those of the configuration, with the provider's, beside those that others set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..resource import State
from ..values import UNKNOWN, Block

# what the provider marks what it has made with
ATTRIBUTION = {"goog-terraform-provisioned": "true"}


def plan(
    block: Block,
    planned: State,
    config: Mapping[str, Any],
    prior: Mapping[str, Any] | None,
    defaults: Mapping[str, str],
    attributed: bool,
) -> None:
    """`defaults` are the labels of the provider; `attributed` says whether it marks what it makes."""
    if "terraform_labels" in block["attributes"]:
        own = config.get("labels")
        marks = ATTRIBUTION if attributed and _is_marked(prior) else {}
        ours = UNKNOWN if _is_unknown(own) else {**defaults, **marks, **(own or {})}
        planned["terraform_labels"] = ours
        planned["effective_labels"] = _effective(ours, prior, "terraform_labels", "effective_labels")
    if "effective_annotations" in block["attributes"]:
        own = config.get("annotations")
        ours = UNKNOWN if _is_unknown(own) else own or {}
        planned["effective_annotations"] = _effective(ours, prior, "annotations", "effective_annotations")


def settle(block: Block, state: State, expected: Mapping[str, Any]) -> None:
    """What others have set is no drift: only what is ours is told."""
    for name, everything in (
        ("terraform_labels", "effective_labels"),
        ("labels", "effective_labels"),
        ("annotations", "effective_annotations"),
    ):
        if name in block["attributes"] and everything in block["attributes"]:
            ours, found = expected.get(name), state[everything] or {}
            state[name] = ours and {key: found[key] for key in ours if key in found}
    for everything in ("effective_labels", "effective_annotations"):
        if everything in block["attributes"]:
            state[everything] = state[everything] or {}


def _effective(ours: Any, prior: Mapping[str, Any] | None, name: str, everything: str) -> Any:
    if ours is UNKNOWN or prior is None:
        return ours
    before = prior[name] or {}
    others = {key: text for key, text in (prior[everything] or {}).items() if key not in before}
    return {**others, **ours}


def _is_unknown(own: Any) -> bool:
    return own is UNKNOWN or (isinstance(own, dict) and UNKNOWN in own.values())


def _is_marked(prior: Mapping[str, Any] | None) -> bool:
    """What is new, and what was marked when it was new."""
    return prior is None or next(iter(ATTRIBUTION)) in (prior["effective_labels"] or {})
