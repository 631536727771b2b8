"""What the real provider refuses in a configuration, beyond its schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .resource import Resource
from .values import UNKNOWN


def faults(resource: Resource[Any, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each. What is not known yet is not judged."""
    for path, allowed in resource.choices.items():
        for value in values(config, path):
            if value not in allowed:
                yield f"{path} must be one of {', '.join(sorted(allowed))}, and not {value!r}"
    for path, pattern in resource.patterns.items():
        for value in values(config, path):
            if not re.fullmatch(pattern, value):
                yield f"{path} must match {pattern}, and {value!r} does not"
    for names in resource.alternatives:
        yield from _alternatives(config, names)


def _alternatives(config: Mapping[str, Any], names: Any) -> Iterator[str]:
    within = next(iter(names)).rpartition(".")[0]
    for owner in values(config, within) if within else [config]:
        members = {name: owner.get(name.rpartition(".")[2]) for name in names}
        if UNKNOWN in members.values():
            continue
        given = sorted(name for name, value in members.items() if value not in (None, []))
        if len(given) != 1:
            yield f"exactly one of {', '.join(sorted(names))} must be given, and not {' and '.join(given) or 'none'}"


def values(config: Any, path: str) -> Iterator[Any]:
    """What is set at a path, in however many blocks."""
    first, _, rest = path.partition(".")
    value = config.get(first) if isinstance(config, Mapping) else None
    if value is None or value is UNKNOWN:
        return
    if rest:
        for one in value if isinstance(value, list) else [value]:
            yield from values(one, rest)
    elif isinstance(value, list):
        yield from (one for one in value if one is not None and one is not UNKNOWN)
    else:
        yield value
