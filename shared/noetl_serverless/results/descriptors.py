"""Descriptors that threads use: whoever waits for a thread may be cancelled, and close its own while that goes on. The
number is then given to the next file that is opened, which the thread would write to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

from ..tables.mapped import MappedFile

T = TypeVar("T")


def duplicate(descriptor: int) -> MappedFile:
    """The same open file, with a descriptor of its own that is closed with this object."""
    return MappedFile(os.dup(descriptor), 0)


async def in_thread(descriptor: int, work: Callable[[int], T]) -> T:
    """Run `work` in a thread, with a descriptor of its own."""
    own = duplicate(descriptor)
    return await asyncio.to_thread(lambda: work(own.fileno()))
