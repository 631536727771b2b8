"""The conformance file and the fragment that show a row of the language: tests/conformance runs each of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import yaml
from tests.conformance.case import FOLDER, Case, cases

from .fragments import fragment
from .places import Language, Place

# files whose playbooks are not as one would write them today
_NOT_OF_TODAY: Final = ("older/", "refused/")


@dataclass(frozen=True)
class Example:
    case: Case
    text: str

    @property
    def size(self) -> tuple[int, int]:
        return self.text.count("\n"), len(self.text)


class Examples:
    def __init__(self, language: Language) -> None:
        self._language = language
        self._covered: dict[str, list[str]] = tomllib.loads((FOLDER / "coverage.toml").read_text())["language"]
        self._cases = {case.name: case for case in cases() if not case.is_to_come}
        self._places: dict[str, list[Place]] = {}

    def files(self, row: str) -> list[Case]:
        """Those that coverage.toml names."""
        return [self._cases[name] for name in self._covered.get(row, ()) if name in self._cases]

    def of(self, row: str, word: str | None = None) -> Example | None:
        """The smallest one of the first file that coverage.toml names and that has one; of all files if none of them
        has. None if there is none, as for a row that is not_yet."""
        named = [case for case in self.files(row if word is None else f"{row}: {word}") if _is_of_today(case)]
        for among in (*([case] for case in named), self._of_today):
            found = [*self._in(among, row, word)]
            if found:
                return min(found, key=lambda example: example.size)
        return None

    def words(self, row: str, names: Iterable[str]) -> list[str]:
        """What stands at the key in these files, where it is text."""
        places = (place for name in names for place in self._places_of(self._cases[name]))
        return [place.word for place in places if place.row == row and place.word is not None]

    def template(self, row: str, pattern: str) -> Example | None:
        """The smallest text with a template in which `pattern` is found, of the files that coverage.toml names."""
        named = [case for case in self.files(row) if _is_of_today(case)]
        for among in (*([case] for case in named), self._of_today):
            found = [
                Example(case, expression)
                for case in among
                for text in _texts(case.playbook)
                for expression in re.findall(r"\{\{.*?\}\}", text)
                if re.search(pattern, expression)
            ]
            if found:
                return min(found, key=lambda example: example.size)
        return None

    @cached_property
    def _of_today(self) -> list[Case]:
        return [case for case in self._cases.values() if _is_of_today(case)]

    def _in(self, among: Iterable[Case], row: str, word: str | None) -> Iterator[Example]:
        for case in among:
            for place in self._places_of(case):
                if place.row == row and word in (None, place.word):
                    yield Example(case, fragment(case.playbook, place))

    def _places_of(self, case: Case) -> list[Place]:
        if case.name not in self._places:
            self._places[case.name] = list(self._language.places(case.playbook))
        return self._places[case.name]


def _texts(playbook: str) -> Iterator[str]:
    """The texts that are values in a playbook."""
    waiting: list[yaml.Node | None] = [yaml.compose(playbook, Loader=yaml.CSafeLoader)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            waiting.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.ScalarNode):
            yield node.value


def _is_of_today(case: Case) -> bool:
    return not case.name.startswith(_NOT_OF_TODAY)
