"""Named SQL: each statement in `sql/<topic>.sql` is headed by a line `-- name: what it does`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

HEADING = re.compile(r"^-- (\w+): .+$", re.MULTILINE)


@cache
def load(topic: str) -> dict[str, str]:
    """The statements of `sql/<topic>.sql` by name."""
    text = (files(__package__) / "sql" / f"{topic}.sql").read_text()
    headings = list(HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return {
        heading.group(1): text[heading.end() : end].strip().rstrip(";")
        for heading, end in zip(headings, ends, strict=True)
    }
