"""What a trigger makes of an event: whether it starts an execution, and with which input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .bounds import WorkMeter
from .plan import Trigger
from .scope import Scope
from .template import TemplateError, render_tree, truthy
from .trigger_plan import EVENT
from .values import InvalidValue, stored
from .views import Reader


@dataclass(frozen=True, slots=True)
class Matched:
    """`input` is None for an event that the trigger's condition leaves out."""

    input: dict[str, Any] | None


def match(trigger: Trigger, event: Mapping[str, Any]) -> Matched:
    """Raises TemplateError, with its place in the playbook."""
    scope = _scope(event)
    if trigger.when is not None and not truthy(trigger.when.render(scope)):
        return Matched(None)
    rendered = render_tree(trigger.input, scope)
    try:
        return Matched(stored(rendered))
    except InvalidValue as error:
        refused = TemplateError(f"the input cannot be stored: {error}")
        refused.line, refused.column = trigger.place.line, trigger.place.column
        raise refused from None


def id_of(trigger: Trigger, event: Mapping[str, Any]) -> str:
    """The id of a message; raises TemplateError."""
    if trigger.event_id is None:
        return str(event["id"])
    value = trigger.event_id.render(_scope(event))
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise trigger.event_id.refusal(f"the id of an event is a text or an integer, not {type(value).__name__}")
    return str(value)


def _scope(event: Mapping[str, Any]) -> Scope:
    return Scope({EVENT: event}, (), {}, (), Reader(None), WorkMeter())
