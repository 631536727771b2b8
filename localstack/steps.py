"""Runs the steps of a journey one after the other, and shows what each did and how long it took."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

Step = tuple[str, Callable[[], str]]


class StepFailed(Exception):
    """The message is the step's own."""


def run(steps: Sequence[Step]) -> None:
    """Raises StepFailed."""
    for name, step in steps:
        began = time.monotonic()
        print(f"{name} ... ", end="", flush=True)
        try:
            said = step()
        except (AssertionError, RuntimeError, TimeoutError) as error:
            raise StepFailed(str(error)) from error
        print(f"{time.monotonic() - began:.1f} s" + (f": {said}" if said else ""), flush=True)


def stay(url: str, command: str) -> str:
    """`command`: how to use the deployment."""
    print(f"up at {url} until Ctrl-C. To use it:\n    {command}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()
    return ""
