"""As much of Terraform's language as the tests and the tables of the READMEs must read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"^(\w+)((?: \"[\w.-]+\")*) \{\n(.*?)^\}", re.S | re.M)
_LABEL = re.compile(r"\"([\w.-]+)\"")


def blocks(text: str, kind: str) -> Iterator[tuple[list[str], str]]:
    """Labels and body of each top-level block of that kind, as `terraform fmt` lays them out."""
    for found, labels, body in _BLOCK.findall(text):
        if found == kind:
            yield _LABEL.findall(labels), body


def files(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.tf")))


def validations(folder: Path) -> Counter[str]:
    """How many validations each variable of a module has."""
    return Counter(
        {
            labels[0]: count
            for labels, body in blocks(files(folder), "variable")
            if (count := body.count("validation {"))
        }
    )


def types(folder: Path, kind: str) -> set[str]:
    """The types of the resources (`resource`) or data sources (`data`) of a module."""
    return set(re.findall(rf'^{kind} "(\w+)" ', files(folder), re.M))


def refusals(text: str, root: Path) -> Iterator[tuple[str, str]]:
    """Folder and variable, for each run of a test file of that root and each variable that it expects to be refused."""
    for _, body in blocks(text, "run"):
        source = re.search(r'^    source = "(.+)"$', body, re.M)
        folder = (root / source.group(1)).resolve() if source else root
        for expected in re.findall(r"expect_failures = \[(.*?)\]", body, re.S):
            for variable in re.findall(r"\bvar\.(\w+)", expected):
                yield str(folder), variable
