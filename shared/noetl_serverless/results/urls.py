"""URLs by which an object can be read without the credentials of its store."""

from __future__ import annotations

from typing import cast

from ..errors import Unsupported
from ..ports import ResultStore, SignsUrls


async def signed_url(store: ResultStore, key: str, seconds: int, content_type: str, filename: str) -> str:
    """Raises Unsupported if the store signs none, and what its `signed_url` raises."""
    if not hasattr(store, "signed_url"):
        raise Unsupported(f"the store {store.name!r} gives no URLs to read its objects")
    signer = cast(SignsUrls, store)
    return await signer.signed_url(key, seconds, content_type=content_type, filename=filename)
