"""Application Default Credentials: who a user's own machine is to Google.

https://cloud.google.com/docs/authentication/application-default-credentials
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ...errors import AccessDenied, Unavailable
from .api import Api
from .results import GcsResultStore
from .signing import IamSigner, Signer

INSTALL = "pip install 'noetl-serverless[gcp]'"
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


class DefaultCredentials:
    """Found, and renewed, by google-auth, which is only imported then."""

    def __init__(self) -> None:
        """AccessDenied if there are none."""
        try:
            import google.auth
            from google.auth.exceptions import GoogleAuthError
        except ImportError:
            raise AccessDenied(f"gs://... needs google-cloud-storage: {INSTALL}") from None
        try:
            self._credentials: Any = google.auth.default(scopes=_SCOPES)[0]
        except GoogleAuthError as error:
            raise AccessDenied(f"no credentials of Google were found: {error}") from error
        self._renewal = asyncio.Lock()

    async def access_token(self) -> str:
        async with self._renewal:
            if not self._credentials.valid:
                await asyncio.to_thread(self._renew)
        return str(self._credentials.token)

    async def email(self) -> str:
        """Of the service account."""
        account = self._account()
        if account == "default":
            # of an instance: known with its first token
            await self.access_token()
            account = self._account()
        if not account:
            raise AccessDenied("the credentials of a person do not sign URLs: use those of a service account")
        return account

    async def sign(self, message: bytes) -> bytes:
        signed: bytes = await asyncio.to_thread(self._credentials.sign_bytes, message)
        return signed

    @property
    def has_key(self) -> bool:
        from google.auth.credentials import Signing

        return isinstance(self._credentials, Signing)

    def _account(self) -> str:
        return str(
            getattr(self._credentials, "signer_email", None)
            or getattr(self._credentials, "service_account_email", None)
            or ""
        )

    def _renew(self) -> None:
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        try:
            self._credentials.refresh(Request())
        except TransportError as error:
            raise Unavailable(f"Google does not give a token: {error}") from error
        except GoogleAuthError as error:
            raise AccessDenied(f"Google gives no token: {error}") from error


class Anonymous:
    """Nobody, as which an emulator lets everybody do everything."""

    async def access_token(self) -> str:
        return ""

    async def email(self) -> str:
        return "emulator@example.iam.gserviceaccount.com"

    async def sign(self, message: bytes) -> bytes:
        # no emulator looks at it
        return b"unsigned"


def user_gcs_results(url: str, environ: Mapping[str, str]) -> GcsResultStore:
    """Objects below `gs://bucket/prefix`, as the default credentials say. STORAGE_EMULATOR_HOST: the URL of an
    emulator."""
    if emulator := environ.get("STORAGE_EMULATOR_HOST"):
        anonymous = Anonymous()
        endpoint = emulator.rstrip("/") if "://" in emulator else f"http://{emulator}"
        return GcsResultStore(Api(anonymous, endpoint), url, anonymous)
    credentials = DefaultCredentials()
    api = Api(credentials)
    signer: Signer = credentials if credentials.has_key else IamSigner(api, credentials.email)
    return GcsResultStore(api, url, signer)
