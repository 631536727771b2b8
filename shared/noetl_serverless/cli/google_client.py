"""Client for a control plane on Cloud Run: requests carry an ID token of the operator's service account.

The user's own credentials, those that Google's tools and Terraform use, must be allowed to act as that account.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ..hosts.gcp.metadata import claims_of
from ..hosts.gcp.session import HEADER
from .client import Client, Readable, StreamedAnswer
from .failure import Failure
from .google_user import SCOPE, ApiRefused, GoogleUser

# an ID token is replaced while it has still this long to live
RENEWAL_SECONDS = 120.0


class GoogleClient(Client):
    """`url` is the service's. Failure without credentials, or if they do not permit to act as the operator."""

    def __init__(self, url: str, token: str, operator: Operator) -> None:
        super().__init__(url, token)
        self._url = url
        self._operator = operator

    def post_for(self, path: str, body: Mapping[str, Any], seconds: float) -> Any:
        """POST, and wait that long for the answer; it is not repeated."""
        return self._call("POST", path, body, seconds, retry=False)

    def _once(
        self, method: str, path: str, data: bytes | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        return super()._once(method, path, data, timeout, {**headers, **self._identity()})

    @contextlib.contextmanager
    def streaming(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Readable | None = None,
        timeout: float = 600.0,
    ) -> Iterator[StreamedAnswer]:
        given = {**headers, **self._identity()}
        with super().streaming(method, path, headers=given, body=body, timeout=timeout) as answer:
            yield answer

    def _identity(self) -> dict[str, str]:
        return {HEADER: f"Bearer {self._operator.id_token(self._url)}"}


class NotOperator(Failure):
    """The user may not act as the service account."""


class Operator:
    """The service account that operators act as."""

    def __init__(self, email: str, user: GoogleUser) -> None:
        self.email = email
        self._user = user
        self._id_tokens: dict[str, str] = {}

    def id_token(self, audience: str) -> str:
        known = self._id_tokens.get(audience)
        if known is None or float(str(claims_of(known)["exp"])) - time.time() < RENEWAL_SECONDS:
            known = str(self._mint("generateIdToken", {"audience": audience, "includeEmail": True})["token"])
            self._id_tokens[audience] = known
        return known

    def secret(self, id: str) -> str:
        """The value of projects/PROJECT/secrets/SECRET. Failure if there is none, or it may not be read."""
        token = str(self._mint("generateAccessToken", {"scope": [SCOPE], "lifetime": "300s"})["accessToken"])
        try:
            answer = self._user.call("GET", "secretmanager", f"/v1/{id}/versions/latest:access", token=token)
        except ApiRefused as error:
            if error.status != 404:
                raise
            # the first version, written just now, is perhaps not the latest yet
            answer = self._user.call("GET", "secretmanager", f"/v1/{id}/versions/1:access", token=token)
        return base64.b64decode(answer["payload"]["data"]).decode()

    def _mint(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        path = f"/v1/projects/-/serviceAccounts/{self.email}:{what}"
        try:
            return self._user.call("POST", "iamcredentials", path, body)
        except ApiRefused as error:
            hint = "Terraform's variable `operators` names those who may"
            raise NotOperator(f"you cannot act as {self.email}: {error.detail}. {hint}") from error
