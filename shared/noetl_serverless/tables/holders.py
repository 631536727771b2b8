"""Where the tables of a value are: found once, as a value may be deep, and to look again at each level of it takes as
many times longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ..limits import MIB
from .invalid import InvalidTable
from .table import Table

# a list of objects in this field is a table, also without rows: tools have theirs there
USUAL_NAME: Final = "rows"
# lists and objects that are looked into for tables
MAX_PLACES: Final = 500_000
# of the names of all tables: each has those of all that it is in
MAX_CHARACTERS: Final = 4 * MIB
# what may be a table, or have one in it
_HOLDERS: Final = frozenset({Table, dict, list, tuple})


class TooManyPlaces(InvalidTable):
    """A value whose tables take too long to be found, or named."""


@dataclass(frozen=True, slots=True)
class _Place:
    """In `above`; None: the value itself."""

    above: _Place | None
    key: str | int

    @property
    def name(self) -> str:
        keys: list[str] = []
        place: _Place | None = self
        while place is not None:
            keys.append(str(place.key))
            place = place.above
        return ".".join(reversed(keys))


class Holders:
    """The lists and objects in `value` that have a table in them, at any depth. `is_json`: there is none."""

    def __init__(self, value: Any, *, is_json: bool = False) -> None:
        # which its members are parts of: they are known by their places in memory
        self._value = value
        self._ids: set[int] = set()
        if not is_json:
            self._find(value)

    def has_table(self, value: Any) -> bool:
        """Whether a part of the value is a table, or has one in it."""
        return isinstance(value, Table) or id(value) in self._ids

    def is_rows(self, value: Any) -> bool:
        """Whether a part of the value is a list of objects without tables in them."""
        return _are_objects(value) and id(value) not in self._ids

    def holds_tables(self, value: Any) -> bool:
        """Whether a part of the value is a list of objects that have tables in them, such as the results of a loop."""
        return id(value) in self._ids and _are_objects(value)

    def named_tables(self) -> Iterator[tuple[str, Any]]:
        """Tables by their places. A list of objects is one as well: a small result has it in the place of a table. One
        whose objects have tables in them is named, too, as are these. Raises TooManyPlaces."""
        waiting: list[tuple[_Place | None, Any]] = [(None, self._value)]
        places = characters = 0
        while waiting:
            place, value = waiting.pop()
            is_table = self._is_table(place, value)
            if is_table or (place is not None and self.holds_tables(value)):
                name = "" if place is None else place.name
                characters += len(name)
                if characters > MAX_CHARACTERS:
                    raise TooManyPlaces(f"the names of its tables have more than {MAX_CHARACTERS} characters")
                yield name, value
            if is_table:
                continue
            members = _members(value)
            places += len(members)
            if places > MAX_PLACES:
                raise TooManyPlaces(f"it has more than {MAX_PLACES} lists and objects that may be tables, or have some")
            waiting += [(_Place(place, key), member) for key, member in reversed(members)]

    def _is_table(self, place: _Place | None, value: Any) -> bool:
        if isinstance(value, Table) or self.is_rows(value):
            return True
        is_usual = place is None or (place.above is None and place.key == USUAL_NAME)
        return bool(is_usual and value == [])

    def _find(self, value: Any) -> bool:
        if isinstance(value, Table):
            return True
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if _HOLDERS.isdisjoint(map(type, members)):
            return False
        # each of them, as all of them are asked for later
        found = sum(self._find(member) for member in members if type(member) in _HOLDERS)
        if found:
            self._ids.add(id(value))
        return bool(found)


def _members(value: Any) -> list[tuple[str | int, Any]]:
    """Those that may be tables, or have some in them, up to more than there may be."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return list(islice((pair for pair in pairs if type(pair[1]) in _HOLDERS), MAX_PLACES + 1))


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
