"""Turns a document into the model of a playbook, or collects every fault with its line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from .document import Document
from .faults import Faults, did_you_mean
from .grammar import API_VERSION, RESOURCES
from .keychain import ENTRY_PATTERN
from .keychain import KINDS as KEYCHAIN_KINDS
from .model import Playbook
from .part import NAME_PATTERN, NAME_RULE
from .plan import POOL_PATTERN
from .triggers import KINDS as TRIGGER_KINDS
from .triggers import NATS_PATTERN, OBJECT_PATTERN, PLAYBOOK_PATTERN, SUBJECT_PATTERN, SUBSCRIPTION_PATTERN

M = TypeVar("M", bound=BaseModel)
# of a value that is shown, its characters at most
MAX_SHOWN = 40

_LEGACY_NEXT = (
    "'next' is not part of the language in this form: write next: {arcs: [{step: ...}]}; "
    "of several arcs the first one is taken whose 'when' holds, with spec: {mode: inclusive} each of them"
)
_TYPES = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "list_type": "a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def validate(document: Document, faults: Faults) -> Playbook | None:
    """The playbook of the document; None if there are faults, which are then in `faults`."""
    return validate_as(Playbook, document, faults)


def validate_as(model: type[M], document: Document, faults: Faults) -> M | None:
    """The document as a `model` of Parts; None if there are faults, which are then in `faults`."""
    try:
        return model.model_validate(document.root, context=faults)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _add(detail, document, faults)
        return None


def _add(detail: Any, document: Document, faults: Faults) -> None:
    location, kind = detail["loc"], detail["type"]
    found, _ = document.find(location)
    missing = kind == "missing"
    if kind in ("model_type", "model_attributes_type") and found and found[-1] == "next":
        faults.add(_LEGACY_NEXT, location, "playbook.legacy")
        return
    value = document.value(found)
    if missing and location[-1] == "kind" and len(location) > 1 and isinstance(value, dict) and _is_labelled(value):
        label = next(iter(value))
        faults.add(f"write the name next to the kind: {{name: {label}, kind: ...}}", location, "playbook.legacy")
        return
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        written, at = (value or {}).get("kind"), (*location, "kind")
        if written is None:
            faults.add("'kind' is required", at, "playbook.missing_field")
        else:
            kinds = TRIGGER_KINDS if location[0] == "triggers" else KEYCHAIN_KINDS
            message = f"this must be one of {', '.join(kinds)}{did_you_mean(str(written), kinds)}"
            if location[0] == "triggers" and written in ("cron", "schedule", "interval", "timer"):
                message += "; set times are no part of a playbook: noetls schedule create"
            faults.add(message, at)
        return
    message = f"'{location[-1]}' is required" if missing else message_of(detail, value, next(iter(found[-1:]), None))
    if location == ("kind",) and not missing:
        message = f"this must be one of {', '.join(RESOURCES)}{did_you_mean(str(value), RESOURCES)}"
    if location == ("apiVersion",):
        # of the other version that is accepted, an author need not know
        message = (
            f"'apiVersion' is required: write apiVersion: {API_VERSION}" if missing else f"this must be {API_VERSION}"
        )
    if location[-2:-1] in (("concurrency",), ("rate",)) and not missing:
        message = f"{location[-1]}: {message}{_given(value)}"
    faults.add(message, location, "playbook.missing_field" if missing else "playbook.invalid_value")


def _is_labelled(value: dict[str, Any]) -> bool:
    return len(value) == 1 and all(isinstance(item, dict) for item in value.values())


def _given(value: Any) -> str:
    """`: 0`, of a value that is short; a limit is no secret."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (str, int, float)) else ""
    return f": {text}" if 0 < len(text) <= MAX_SHOWN else ""


# what a text has to be
_PATTERNS: Final[Mapping[str, str]] = {
    OBJECT_PATTERN: "a place of objects: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or file:///PATH of a folder",
    PLAYBOOK_PATTERN: "a path of the catalog: letters, digits and _./-, of which the first is a letter, a digit or _",
    NATS_PATTERN: "a name of a stream: letters, digits, _ and -",
    SUBJECT_PATTERN: "a subject of NATS: parts without blanks, with a dot between them",
    SUBSCRIPTION_PATTERN: "a subscription: projects/PROJECT/subscriptions/NAME",
    ENTRY_PATTERN: "a valid name: use letters, digits, _ and -, and begin with a letter or _",
    POOL_PATTERN: "a name of a pool: 1 to 20 small letters, digits and _, of which the first is a letter",
}


def message_of(detail: Any, value: Any, key: str | int | None = None) -> str:
    """What is wrong with `value`, of an error of pydantic; `key`: under which it stands."""
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind in _TYPES:
        # YAML takes words such as yes for true
        quotes = "; put it in quotes" if kind == "string_type" and isinstance(value, (bool, int, float)) else ""
        return f"this must be {_TYPES[kind]}, not {_kind_of(value)}{quotes}"
    if kind == "literal_error":
        if context["expected"] == "'none'":
            return f"this must be an object or none, not {str(value)[:80]!r}"
        allowed = [part.strip("' ") for part in str(context["expected"]).replace(" or ", ", ").split(",")]
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        return f"this must be one of {', '.join(allowed)}{hint}"
    if kind == "string_pattern_mismatch" and context["pattern"] == NAME_PATTERN:
        return f"'{str(value)[:80]}' is not a valid name: {NAME_RULE}"
    if kind == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        return f"'{str(value)[:80]}' is not {_PATTERNS[context['pattern']]}"
    if kind == "string_pattern_mismatch":
        return f"'{str(value)[:80]}' does not match the pattern {context['pattern']}"
    if kind == "too_short":
        return f"the list must have at least {context['min_length']} item{'' if context['min_length'] == 1 else 's'}"
    from .bound_text import bound_text

    if (text := bound_text(kind, context, key)) is not None:
        return text
    return str(detail["msg"]).removeprefix("Value error, ").replace("Input", "this").replace("List", "the list")


def _kind_of(value: Any) -> str:
    names: Iterable[tuple[type, str]] = (
        (bool, "true or false"),
        (str, "a string"),
        (int, "a number"),
        (float, "a number"),
        (dict, "a mapping"),
        (list, "a list"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "nothing")
