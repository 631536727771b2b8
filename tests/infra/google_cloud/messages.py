"""JSON as Google's own messages: what they do not have is refused, and so is what is not implemented here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask

from .errors import InvalidArgument, Unimplemented

# an instance of a class that protobuf makes: its fields are known only there
Message = Any


class Form:
    """One of Google's messages. `implemented` and `output` are paths with dots, each with all below it; those of
    `output` only the service sets: as on Google they are ignored where a client gives them."""

    def __init__(self, kind: Any, implemented: str, output: str = "") -> None:
        """`kind`: the proto-plus class of a client library, or one that protobuf has made itself."""
        self.kind = kind.pb() if hasattr(kind, "pb") else kind
        self._implemented = frozenset(implemented.split())
        self._output = frozenset(output.split())

    def parse(self, document: Any) -> Message:
        """Raises InvalidArgument, Unimplemented."""
        message = parse(self.kind, document)
        for path in self._output:
            _clear(message, path.split("."))
        _refuse_unimplemented(message, self._implemented)
        return message

    def update(self, stored: Message, given: Message, mask: str | None) -> list[str]:
        """Change `stored` where the mask says; without a mask, in every field that clients set. The paths."""
        paths = _paths(mask) or sorted({path.partition(".")[0] for path in self._implemented})
        for path in paths:
            if not FieldMask.IsValidForDescriptor(FieldMask(paths=[path]), self.kind.DESCRIPTOR):
                raise InvalidArgument(f"Invalid update_mask: {path} is not a field of {self.kind.DESCRIPTOR.name}.")
            if not any(_is_within(path, known) for known in self._implemented):
                raise InvalidArgument(f"Invalid update_mask: {path} cannot be updated.")
        FieldMask(paths=paths).MergeMessage(given, stored, True, True)
        return paths


def parse(kind: Any, document: Any) -> Message:
    try:
        return json_format.ParseDict(document, kind())
    except (json_format.ParseError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from None


def render(message: Message) -> dict[str, Any]:
    """As Google answers: names in camel case, without what is not set."""
    document: dict[str, Any] = json_format.MessageToDict(message)
    return document


def packed(message: Message) -> dict[str, Any]:
    """In an Any."""
    return {"@type": f"type.googleapis.com/{message.DESCRIPTOR.full_name}", **render(message)}


def copy(message: Message) -> Message:
    same = type(message)()
    same.CopyFrom(message)
    return same


def has(message: Message, field: str) -> bool:
    return bool(message.HasField(field))


def now() -> datetime:
    return datetime.now(UTC)


def stamp(field: Message, time: datetime | None = None) -> None:
    field.FromDatetime((time or now()).astimezone(UTC).replace(tzinfo=None))


def seconds(duration: Message) -> float:
    return float(duration.seconds) + float(duration.nanos) / 1e9


def set_seconds(duration: Message, value: float) -> None:
    duration.FromNanoseconds(round(value * 1e9))


def moment(timestamp: Message) -> datetime:
    found: datetime = timestamp.ToDatetime(tzinfo=UTC)
    return found


def _paths(mask: str | None) -> list[str]:
    """In snake case; none for everything."""
    if mask in (None, "", "*"):
        return []
    assert mask is not None
    return [re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", path) for path in mask.split(",")]


def _is_within(path: str, known: str) -> bool:
    return path == known or path.startswith(f"{known}.") or known.startswith(f"{path}.")


def _clear(message: Message, path: list[str]) -> None:
    head, *rest = path
    if not rest:
        message.ClearField(head)
    elif message.DESCRIPTOR.fields_by_name[head].is_repeated:
        for one in getattr(message, head):
            _clear(one, rest)
    elif message.HasField(head):
        _clear(getattr(message, head), rest)


def _refuse_unimplemented(message: Message, implemented: Collection[str], prefix: str = "") -> None:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if path in implemented:
            continue
        if not any(known.startswith(f"{path}.") for known in implemented):
            raise Unimplemented(f"The stand-in does not implement the field {path} of {message.DESCRIPTOR.full_name}.")
        values: Iterable[Message] = value if field.is_repeated else [value]
        for one in values:
            _refuse_unimplemented(one, implemented, f"{path}.")
