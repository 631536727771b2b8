"""Google's APIs, in the name of the service account of a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .api import Api
from .metadata import DEFAULT_HOST, Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Google:
    """Google's APIs, as the environment of a function names them."""

    metadata: Metadata
    api: Api
    # of an emulator
    endpoint_url: str | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Google:
        metadata = Metadata(environ.get("GCE_METADATA_HOST", DEFAULT_HOST))
        endpoint_url = environ.get("GOOGLE_ENDPOINT_URL")
        return cls(metadata=metadata, api=Api(metadata, endpoint_url), endpoint_url=endpoint_url)
