"""Who signs URLs of Cloud Storage: a service account, by a key of its own or by IAM."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import quote

from ...errors import AccessDenied, Unavailable
from ..cloud.transport import ApiError
from .api import Api


class Signer(Protocol):
    async def email(self) -> str:
        """The address of the service account. Raises AccessDenied where there is none."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Raises AccessDenied, Unavailable."""
        ...


class IamSigner:
    """Signs through IAM, which lets an account sign as itself if it has iam.serviceAccounts.signBlob on itself."""

    def __init__(self, api: Api, email: Callable[[], Awaitable[str]]) -> None:
        self._api = api
        self._email = email

    async def email(self) -> str:
        return await self._email()

    async def sign(self, message: bytes) -> bytes:
        account = await self.email()
        path = f"/v1/projects/-/serviceAccounts/{quote(account, safe='@')}:signBlob"
        try:
            answer = await self._api.json(
                "iamcredentials", "POST", path, {"payload": base64.b64encode(message).decode()}
            )
        except ApiError as error:
            if error.is_transient:
                raise Unavailable(f"IAM does not sign: {error}") from error
            raise AccessDenied(
                f"{account} may not sign URLs as itself (role roles/iam.serviceAccountTokenCreator on itself): {error}"
            ) from error
        return base64.b64decode(answer["signedBlob"])


async def signed_url(
    signer: Signer, bucket: str, name: str, seconds: int, *, content_type: str, disposition: str, endpoint: str
) -> str:
    """A URL that GETs the object (V4 signing process)."""
    email = await signer.email()
    loop = asyncio.get_running_loop()

    def sign(message: bytes) -> bytes:
        return asyncio.run_coroutine_threadsafe(signer.sign(message), loop).result()

    def generate() -> str:
        # slow to import, and needed for nothing else
        from datetime import timedelta

        from google.auth.credentials import AnonymousCredentials, Signing
        from google.cloud.storage import Client

        class Account(Signing):
            signer_email = email
            signer = None

            def sign_bytes(self, message: bytes) -> bytes:
                return sign(message)

        nobody: Any = AnonymousCredentials
        client = Client(project="-", credentials=nobody())
        url: str = (
            client.bucket(bucket)
            .blob(name)
            .generate_signed_url(
                version="v4",
                expiration=timedelta(seconds=seconds),
                credentials=Account(),
                api_access_endpoint=endpoint,
                response_type=content_type,
                response_disposition=disposition,
            )
        )
        return url

    return await asyncio.to_thread(generate)
