"""Client for a control plane on Cloud Run: requests carry an ID token of the operator's service account.

The user's own credentials, those that Google's tools and Terraform use, must be allowed to act as that account.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from typing import Any

from ..hosts.gcp.metadata import claims_of
from ..hosts.gcp.session import HEADER
from .client import Client
from .failure import Failure

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
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
        identity = {HEADER: f"Bearer {self._operator.id_token(self._url)}"}
        return super()._once(method, path, data, timeout, {**headers, **identity})


class Operator:
    """The service account that operators act as. `endpoint_url` replaces Google's own: an emulator."""

    def __init__(self, email: str, endpoint_url: str | None = None) -> None:
        self.email = email
        self.endpoint_url = endpoint_url
        self._session: Any = None
        self._id_tokens: dict[str, str] = {}

    def id_token(self, audience: str) -> str:
        known = self._id_tokens.get(audience)
        if known is None or float(str(claims_of(known)["exp"])) - time.time() < RENEWAL_SECONDS:
            known = self._mint("generateIdToken", {"audience": audience, "includeEmail": True})["token"]
            self._id_tokens[audience] = known
        return known

    def secret(self, id: str) -> str:
        """The value of projects/PROJECT/secrets/SECRET. Failure if there is none, or it may not be read."""
        import requests

        token = self._mint("generateAccessToken", {"scope": [SCOPE], "lifetime": "300s"})["accessToken"]
        url = f"{self._endpoint('secretmanager')}/v1/{id}/versions/latest:access"
        answer = requests.get(url, headers={"authorization": f"Bearer {token}"}, timeout=60)
        if not answer.ok:
            raise Failure(f"the secret {id} cannot be read: {_said(answer)}")
        return base64.b64decode(answer.json()["payload"]["data"]).decode()

    def _mint(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self._endpoint('iamcredentials')}/v1/projects/-/serviceAccounts/{self.email}:{what}"
        answer = self._user().post(url, json=dict(body))
        if not answer.ok:
            raise Failure(
                f"you cannot act as {self.email}: {_said(answer)}. Name yourself in Terraform's variable operators"
            )
        found: dict[str, Any] = answer.json()
        return found

    def _endpoint(self, service: str) -> str:
        return self.endpoint_url or f"https://{service}.googleapis.com"

    def _user(self) -> Any:
        """A session with the user's credentials."""
        if self._session is None:
            try:
                import google.auth
                from google.auth.exceptions import DefaultCredentialsError
                from google.auth.transport.requests import AuthorizedSession
                from google.oauth2.credentials import Credentials
            except ImportError:
                raise Failure("google-auth is not installed; run: pip install 'noetl-serverless[gcp]'") from None
            try:
                # Terraform takes this one first, too
                given = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
                credentials = Credentials(given) if given else google.auth.default(scopes=[SCOPE])[0]  # type: ignore[no-untyped-call]
            except DefaultCredentialsError as error:
                raise Failure(f"no credentials of Google Cloud: {error}") from error
            self._session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        return self._session


def _said(answer: Any) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
