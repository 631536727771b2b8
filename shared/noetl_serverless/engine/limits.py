"""What a decision may put into an event or a state: see `noetl_serverless.limits`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import limits
from ..playbook.values import InvalidValue


def size_of(value: Any) -> int:
    """In bytes of JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def check_set(ctx: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """`values` are about to be set in `ctx`. Raises InvalidValue."""
    if not values:
        return
    sizes = {name: size_of(value) for name, value in values.items()}
    for name, size in sizes.items():
        _check(f"ctx.{name}", size, limits.SET_VALUE_BYTES)
    _check("what one step sets", sum(sizes.values()), limits.SET_BYTES)
    # most are far from it: no need to write them all out each time
    if len(ctx) + len(values) > limits.CTX_BYTES // limits.SET_VALUE_BYTES:
        _check("ctx", size_of({**ctx, **values}), limits.CTX_BYTES)


def check_scope(scope: Mapping[str, Any]) -> None:
    """What a command is to be issued with. Raises InvalidValue."""
    if len(scope["ctx"]) + len(scope["steps"]) > limits.SCOPE_BYTES // limits.INLINE_BYTES:
        _check("what the step reads of ctx and of earlier steps", size_of(scope), limits.SCOPE_BYTES)


def _check(what: str, size: int, most: int) -> None:
    if size > most:
        raise InvalidValue(
            f"{what} would have {size} bytes, more than {most}: let a step return it, and read it from that step"
        )
