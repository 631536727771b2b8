"""What a configuration gives to a resource, and a record of what of it was passed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self


class Given:
    """One object of a configuration. What is asked for counts as passed on."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: self._wrap(value) for name, value in values.items()}
        self._taken: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """Text, number, truth value, list or map; None if it is not set. KeyError if the schema has no such name."""
        self._taken.add(name)
        return self._values[name]

    def block(self, name: str) -> Self | None:
        """The block that may stand once."""
        found = self.blocks(name)
        return found[0] if found else None

    def blocks(self, name: str) -> list[Self]:
        self._taken.add(name)
        value = self._values[name]
        if value is None:
            return []
        return value if isinstance(value, list) else [value]

    def plain(self, name: str) -> Any:
        """What is set, as it was given; it does not count as passed on."""
        return _unwrap(self._values[name])

    def forgo(self, *names: str) -> None:
        """These are for the provider itself, not for the API."""
        self._taken.update(names)

    def untaken(self, prefix: str = "") -> Iterator[str]:
        """Paths of what is set and was never asked for."""
        for name, value in self._values.items():
            if value is None or value == []:
                continue
            if name not in self._taken:
                yield f"{prefix}{name}"
            elif isinstance(value, Given):
                yield from value.untaken(f"{prefix}{name}.")
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, Given):
                        yield from item.untaken(f"{prefix}{name}[{index}].")

    def _wrap(self, value: Any) -> Any:
        match value:
            case _Map():
                return dict(value)
            case dict():
                return type(self)(value)
            case list():
                return [self._wrap(item) for item in value]
            case _:
                return value


class _Map(dict[str, Any]):
    """A map of a configuration, whose keys are its author's: asked for as a whole."""


def as_map(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return _Map(values)


def _unwrap(value: Any) -> Any:
    match value:
        case Given():
            return {name: value.plain(name) for name in value._values}
        case list():
            return [_unwrap(item) for item in value]
        case _:
            return value
