"""URLs of folders, and those by which an object can be read without the credentials of its store."""

from __future__ import annotations

import os
from typing import cast
from urllib.parse import unquote

from ..errors import Unsupported
from ..ports import ResultStore, SignsUrls


def folder_of(url: str) -> str | None:
    """The path that file:///folder names, percent-encoded as in any URL, or that stands alone; None for other URLs."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if scheme not in ("file", "local"):
        return None
    # a folder that has such a name keeps it: it may hold results from when nothing was decoded
    return rest if scheme == "local" or os.path.isdir(rest) else unquote(rest)


async def signed_url(store: ResultStore, key: str, seconds: int, content_type: str, filename: str) -> str:
    """Raises Unsupported if the store signs none, and what its `signed_url` raises."""
    if not hasattr(store, "signed_url"):
        raise Unsupported(f"the store {store.name!r} gives no URLs to read its objects")
    signer = cast(SignsUrls, store)
    return await signer.signed_url(key, seconds, content_type=content_type, filename=filename)
