"""Results in GCS."""

from __future__ import annotations

import os

from ...results.store import FsspecResultStore


def gcs_results(url: str, endpoint_url: str | None = None) -> FsspecResultStore:
    """Objects below `gs://bucket/prefix`, read and written as the function's service account. To be called after the
    process has forked: gcsfs has a thread of its own."""
    # gcsfs would otherwise load gRPC, half a second, for kinds of buckets that this one is not
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    from google.auth.compute_engine import Credentials

    # keys are written once, and listed only to find those that nobody needs any more
    return FsspecResultStore(
        url,
        token=Credentials(),  # type: ignore[no-untyped-call]
        endpoint_url=endpoint_url,
        use_listings_cache=False,
    )
