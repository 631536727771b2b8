"""The result store of a URL, on a machine of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from ...ports import ResultStore
from ...results.store import FsspecResultStore

_OF_GOOGLE = (
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"),
    *("GCE_METADATA_HOST", "STORAGE_EMULATOR_HOST"),
)


def object_store(url: str, environ: Mapping[str, str]) -> ResultStore:
    """A folder (file:///folder), S3 or what speaks like it (s3://bucket/prefix), Google Cloud Storage
    (gs://bucket/prefix). Keys, region and endpoint are found as boto3 and Google's clients find them.

    Raises NoCredentials, AccessDenied.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("s3", "s3a"):
        from ..aws.api import Api
        from ..aws.profile import account_of
        from ..aws.results import S3ResultStore

        return S3ResultStore(Api(account_of(environ)), url)
    if scheme in ("gs", "gcs"):
        from ..gcp.default_credentials import user_gcs_results

        return user_gcs_results(url, environ)
    return FsspecResultStore(url)


def variables_of_store(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a function needs of a user's environment for the store of results, and nothing where that is a folder."""
    scheme = urlsplit(url).scheme
    if scheme in ("s3", "s3a"):
        return {name: value for name, value in environ.items() if name.startswith("AWS_")}
    if scheme in ("gs", "gcs"):
        return {name: environ[name] for name in _OF_GOOGLE if name in environ}
    return {}
