"""Compiles the entries of `triggers`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..errors import pointer_keys
from .document import Path, plain_data
from .plan import Trigger
from .sandbox import GLOBALS
from .template import Tree
from .template_places import find_place
from .trees import Trees, templates_in
from .triggers import MessageTrigger, ObjectTrigger, PlaybookTrigger, TriggerPart, WebhookTrigger

# what its templates may read, besides functions
EVENT: Final = "event"
# of an event; what a webhook brings, and messages of some sources, have headers
EVENT_FIELDS: Final = frozenset({"id", "source", "type", "time", "data", "headers"})
# the name that no trigger has: GET /api/triggers/PATH/events lists events of the trigger PATH
EVENTS: Final = "events"
_COMMON_KEYS: Final = frozenset({"name", "kind", "enabled", "when", "input", "id"})
# of a source of messages: the key that names it, and those that the others have
_PLACES: Final[Mapping[str, str]] = {"nats": "stream", "sqs": "queue", "pubsub": "subscription"}
_OWN: Final[Mapping[str, frozenset[str]]] = {
    "nats": frozenset({"stream", "subject"}),
    "sqs": frozenset({"queue"}),
    "pubsub": frozenset({"subscription"}),
}


def compiled_triggers(triggers: Iterable[TriggerPart], trees: Trees, path: str) -> dict[str, Trigger]:
    """By name; faults go to those of `trees`. `path`: of the playbook that they start."""
    found: dict[str, Trigger] = {}
    for index, trigger in enumerate(triggers):
        here = ("triggers", index)
        if trigger.name in found:
            message = f"there is another trigger named '{trigger.name}'"
            trees.faults.add(message, (*here, "name"), "playbook.duplicate_name")
        if trigger.name == EVENTS:
            message = f"no trigger is named '{EVENTS}': PATH/{EVENTS} is where the API lists the events of PATH"
            trees.faults.add(message, (*here, "name"))
        found[trigger.name] = _trigger(trigger, trees, here, path)
    return found


def _trigger(trigger: TriggerPart, trees: Trees, here: Path, path: str) -> Trigger:
    assert isinstance(trigger, (WebhookTrigger, ObjectTrigger, MessageTrigger, PlaybookTrigger))
    when = trees.condition(trigger.when, (*here, "when"))
    input_tree = trees.tree(plain_data(trigger.input), (*here, "input"))
    event_id = None
    if isinstance(trigger, MessageTrigger):
        _check_message(trigger, trees, here)
        if trigger.id is not None:
            event_id = trees.template(trigger.id, (*here, "id"))
            if event_id is not None and not event_id.is_expression:
                trees.faults.add("'id' must be one {{ expression }} over event", (*here, "id"))
    if isinstance(trigger, PlaybookTrigger) and trigger.path == path:
        trees.faults.add("a playbook cannot be started by its own end", (*here, "path"))
    for key, tree in (("when", when), ("input", input_tree), ("id", event_id)):
        _check_names(tree, trees, (*here, key))
    config = {key: value for key, value in trigger.model_dump().items() if key not in _COMMON_KEYS}
    return Trigger(
        name=trigger.name,
        kind=trigger.kind,
        enabled=trigger.enabled,
        source=_source(config, trigger.kind),
        config={key: value for key, value in config.items() if value is not None},
        when=when,
        input=input_tree,
        event_id=event_id,
        place=trees.place(here),
    )


def _source(config: Mapping[str, Any], kind: str) -> str:
    match kind:
        case "webhook":
            return str(config["scheme"])
        case "object":
            return str(config["url"])
        case "message":
            return f"{config['source']}:{config[_PLACES[config['source']]]}"
        case _:
            return str(config["path"])


def _check_message(trigger: MessageTrigger, trees: Trees, here: Path) -> None:
    own = _OWN[trigger.source]
    required = _PLACES[trigger.source]
    if getattr(trigger, required) is None:
        trees.faults.add(f"'{required}' is required with source: {trigger.source}", here, "playbook.missing_field")
    for key in sorted({"stream", "subject", "queue", "subscription"} - own):
        if getattr(trigger, key) is not None:
            other = next(source for source, keys in _OWN.items() if key in keys)
            trees.faults.add(f"'{key}' is for source: {other}", (*here, key), key=True)


def _check_names(tree: Tree, trees: Trees, path: Path) -> None:
    for template in templates_in(tree):
        for name in sorted(template.reads):
            if name != EVENT and name not in GLOBALS:
                message = f"the templates of a trigger read 'event' alone, not '{name}'"
                place = template.place or trees.text_place(path)
                line, column = place.within(*find_place(template.environment, template.source, None, name))
                trees.faults.add_at(message, pointer_keys(place.pointer), line, column, "playbook.undefined_name")
