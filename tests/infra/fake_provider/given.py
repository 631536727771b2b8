"""What a configuration gives to a resource, and a record of what of it was passed on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# words whose spelling in AWS's API is not that of a name in camel case
_SPELLED = {
    "az": "AZ",
    "ca": "CA",
    "db": "DB",
    "dns": "Dns",
    "iam": "IAM",
    "tls": "TLS",
    "url": "Url",
}


class Given:
    """One object of a configuration. What is asked for counts as passed on."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: _wrap(value) for name, value in values.items()}
        self._taken: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        """Text, number, truth value, list or map; None if it is not set. KeyError if the schema has no such name."""
        self._taken.add(name)
        return self._values[name]

    def block(self, name: str) -> Given | None:
        """The block that may stand once."""
        found = self.blocks(name)
        return found[0] if found else None

    def blocks(self, name: str) -> list[Given]:
        self._taken.add(name)
        value = self._values[name]
        if value is None:
            return []
        return value if isinstance(value, list) else [value]

    def pick(self, *names: str, **renamed: str) -> dict[str, Any]:
        """Parameters of a call: `name` as the API's `Name`, `name=Other` as `Other`; without what is not set."""
        parameters = {api_name(name): self[name] for name in names}
        parameters |= {parameter: self[name] for name, parameter in renamed.items()}
        return {name: value for name, value in parameters.items() if value is not None}

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


class _Map(dict[str, Any]):
    """A map of a configuration, whose keys are its author's: asked for as a whole."""


def as_map(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return _Map(values)


def _wrap(value: Any) -> Any:
    match value:
        case _Map():
            return dict(value)
        case dict():
            return Given(value)
        case list():
            return [_wrap(item) for item in value]
        case _:
            return value


def api_name(name: str) -> str:
    return "".join(_SPELLED.get(word, word.capitalize()) for word in name.split("_"))


def terraform_name(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
