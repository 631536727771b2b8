"""`python -m tests.infra.fake_provider.table` prints the tables of README.md: what is checked of each type."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from .catalog import data_sources, names, resources


def rows(provider: str) -> Iterator[str]:
    yield "| type | a change makes a new one | not read back, so drift is not seen |"
    yield "|---|---|---|"
    for name, resource in sorted(resources(provider).items()):
        unseen = {*resource.kept, *resource.forgotten, *resource.local}
        yield f"| `{name}` | {_names(resource.replace)} | {_names(unseen)} |"
    yield from (f"| data `{name}` | | |" for name in sorted(data_sources(provider)))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    for name in names():
        sys.stdout.write("\n".join([f"## hashicorp/{name}", "", *rows(name)]) + "\n\n")
