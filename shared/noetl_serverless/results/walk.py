"""The keys of a folder of results, in order, without reading all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator


def keys_below(root: str, prefix: str, after: str = "") -> Iterator[str]:
    """The files below `root`, as keys relative to it, that begin with `prefix` and come after `after`. What goes
    meanwhile is left out. OSError if a folder cannot be read."""
    yield from _below(root, prefix.rpartition("/")[0], prefix, after)


def _below(root: str, folder: str, prefix: str, after: str) -> Iterator[str]:
    start = f"{folder}/" if folder else ""
    try:
        with os.scandir(f"{root}/{folder}" if folder else root) as entries:
            # a folder comes where the keys in it do: a-b/x, a.json, a/x
            names = sorted(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        key = f"{start}{name}"
        # as far as both go: a folder may hold what is wanted
        if key[: len(prefix)] != prefix[: len(key)]:
            continue
        if not name.endswith("/"):
            if key > after and key.startswith(prefix):
                yield key
        elif key > after or after.startswith(key):
            yield from _below(root, key[:-1], prefix, after)
