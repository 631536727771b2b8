"""Google's APIs with the credentials that the user has set up for Google's own tools and for Terraform."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .failure import Failure

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_SECONDS = 60.0


class ApiRefused(Failure):
    """Google answered with an error; `status` is that of HTTP."""

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail)
        self.status = status


class GoogleUser:
    """`endpoint_url` replaces the hosts of all services: an emulator."""

    def __init__(self, endpoint_url: str | None = None) -> None:
        self._endpoint_url = endpoint_url
        self._session: Any = None

    def call(
        self,
        method: str,
        service: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
    ) -> dict[str, Any]:
        """`service` is the first part of its host: run, secretmanager; `token`: instead of the user's own. Raises
        ApiRefused, and Failure without credentials."""
        url = f"{self._endpoint_url or f'https://{service}.googleapis.com'}{path}"
        given = {"authorization": f"Bearer {token}"} if token else {}
        check_installed()
        session = self._open(token)
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            answer = session.request(
                method, url, json=None if body is None else dict(body), headers=given, timeout=TIMEOUT_SECONDS
            )
        except RequestException as error:
            raise Failure(f"{service} does not answer: {type(error).__name__}") from error
        except GoogleAuthError as error:
            hint = "sign in anew: gcloud auth application-default login"
            raise Failure(f"your credentials of Google Cloud are not accepted: {error}. {hint}") from error
        if not answer.ok:
            raise ApiRefused(f"{service} answered {answer.status_code}: {_message(answer)}", answer.status_code)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def _open(self, token: str | None) -> Any:
        """A session, with the user's credentials unless there is a token."""
        import google.auth
        import requests
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import AuthorizedSession
        from google.oauth2.credentials import Credentials

        if token:
            return requests
        if self._session is None:
            try:
                # Terraform takes this one first, too
                given = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
                own: Any = Credentials(given) if given else google.auth.default(scopes=[SCOPE])[0]  # type: ignore[no-untyped-call]
            except DefaultCredentialsError as error:
                raise Failure(f"there are no credentials of Google Cloud: {error}") from error
            self._session = AuthorizedSession(own)  # type: ignore[no-untyped-call]
        return self._session


def check_installed() -> None:
    """Failure that says what to install."""
    try:
        import google.auth.transport.requests  # noqa: F401
    except ImportError:
        raise Failure(
            "Google's library google-auth is not installed: pip install -e '.[gcp]' in the project's folder"
        ) from None


def _message(answer: Any) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(answer.text)[:200]
