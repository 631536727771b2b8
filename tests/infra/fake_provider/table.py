"""`python -m tests.infra.fake_provider.table` prints the table of README.md: what is checked of each type."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from .catalog import data_sources, resources


def rows() -> Iterator[str]:
    yield "| type | a change makes a new one | not read back, so drift is not seen |"
    yield "|---|---|---|"
    for name, resource in sorted(resources().items()):
        unseen = {*resource.kept, *resource.forgotten, *resource.local}
        yield f"| `{name}` | {_names(resource.replace)} | {_names(unseen)} |"
    yield from (f"| data `{name}` | | |" for name in sorted(data_sources()))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows()) + "\n")
