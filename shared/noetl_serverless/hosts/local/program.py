"""What the process that serves all functions of a stack is told of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class FunctionProgram:
    """`source`: the file whose function `target` is served; `environment`: its variables, beside those of the
    process."""

    name: str
    source: str
    target: str
    port: int
    environment: Mapping[str, str]


def to_input(programs: Sequence[FunctionProgram]) -> bytes:
    """Not an environment variable: others may read those in /proc."""
    return json.dumps([asdict(program) for program in programs]).encode()


def from_input(text: bytes) -> list[FunctionProgram]:
    return [FunctionProgram(**row) for row in json.loads(text)]
