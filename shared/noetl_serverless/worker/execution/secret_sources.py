"""Where the values of the keychain come from, by kind."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from ...playbook.keychain import DEFAULT_TTL_SECONDS, GOOGLE_SCOPE, ID_TOKEN_FIELDS, TOKEN_FIELDS
from ...playbook.plan import KeychainEntry
from ...playbook.scope import build_scope
from ...playbook.template import render_tree
from ...playbook.values import InvalidValue, stored
from ...playbook.views import View
from ...protocol import ClaimedCommand
from ...tools.aws_signature import UserKeys, signed_headers
from ...tools.google_account import GRANT_TYPE, Unusable, account_of, assertion, token_url
from ...tools.port import Credential, ToolCall, ToolContext, ToolFailure, credential_named
from .toolbox import LoadTool

DENIED: Final = "keychain.denied"
UNAVAILABLE: Final = "keychain.unavailable"

CALL_SECONDS = 20.0
MAX_ATTEMPTS = 3
FIRST_DELAY_SECONDS = 0.5
GOOGLE_SECRET_MANAGER = "https://secretmanager.googleapis.com"
FORM = "application/x-www-form-urlencoded"

Views: TypeAlias = Callable[[Iterable[str]], Awaitable[dict[str, View]]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """`ttl`: seconds that it is valid."""

    data: Mapping[str, Any] = field(repr=False)
    ttl: float


def secret_failure(entry: KeychainEntry, code: str, message: str) -> ToolFailure:
    text = f"the keychain entry '{entry.name}': {message}"
    return ToolFailure("keychain", code, text, retryable=code == UNAVAILABLE)


class Sources:
    """The sources of one entry."""

    def __init__(
        self,
        command: ClaimedCommand,
        load_tool: LoadTool,
        context: ToolContext,
        views: Views,
        remember: Callable[[Credential], None],
        entry: KeychainEntry,
    ) -> None:
        """`context`: of the requests, which are made with the tool of kind http; `views`: of other entries; `remember`
        is told of everything secret, before it is used."""
        self._command = command
        self._load_tool = load_tool
        self._context = context
        self._views = views
        self._remember = remember
        self._entry = entry

    async def literal(self) -> Mapping[str, Any]:
        """The fields that stand in the playbook. Raises what `fetch` raises."""
        if self._entry.kind == "bearer":
            return dict.fromkeys(TOKEN_FIELDS, str(await self._rendered("token")))
        values: Mapping[str, Any] = await self._rendered("map")
        return values

    async def stored(self) -> Credential:
        """The credential that it stands for. Raises what `fetch` raises."""
        name = await self._rendered("credential") or await self._rendered("ref") or self._entry.name
        credential = await self._credential(name)
        expected = await self._rendered("type")
        if expected not in (None, "credential", "credential_ref", credential.type):
            raise self._denied(f"the credential {credential.name!r} is of type {credential.type!r}, not {expected!r}")
        return credential

    async def fetch(self) -> Fetched:
        """Raises ToolFailure `keychain.denied` or `keychain.unavailable`, and TemplateError."""
        match self._entry.kind:
            case "oauth2":
                return await self._oauth2()
            case "google_id_token":
                return await self._google_id_token()
            case "google_access_token":
                return await self._google_access_token()
            case _:
                return Fetched(await self._secrets(), self._entry.ttl or DEFAULT_TTL_SECONDS)

    # -- tokens

    async def _oauth2(self) -> Fetched:
        name = await self._rendered("auth")
        credential = await self._credential(name) if name else None
        auth = {"auth": credential.data} if credential is not None else {}
        sent = credential if self._entry.sends_auth else None
        request = {key: await self._rendered(key, **auth) for key in ("endpoint", "method", "headers", "data")}
        response = self._object(await self._call(_token_request(request, sent)))
        self._remember(Credential(self._entry.name, "response", response))
        data = response if self._entry.config["map"] is None else await self._rendered("map", response=response)
        if data is response and "error" in response and "access_token" not in response:
            raise self._denied(f"the token endpoint answered the error {_cut(str(response['error']), 200)!r}")
        return Fetched(data, self._lifetime(response.get("expires_in")))

    def _lifetime(self, stated: Any) -> float:
        """`stated`: `expires_in` of the answer, which some send as text."""
        ttl = self._entry.ttl
        try:
            seconds = float(stated)
        except (TypeError, ValueError, OverflowError):
            return ttl or DEFAULT_TTL_SECONDS
        if not isfinite(seconds):
            return ttl or DEFAULT_TTL_SECONDS
        return max(1.0, min(seconds, ttl or seconds, 31 * 86_400.0))

    async def _google_id_token(self) -> Fetched:
        credential = await self._credential(
            await self._rendered("auth") or await self._rendered("service_account_credential")
        )
        secret = await self._rendered("service_account_secret")
        if secret and not str(secret).lstrip().startswith("{"):
            secret = await self._secret_version(str(secret), credential)
        account = self._account(credential.name, {"key": secret} if secret else credential.data)
        audience = str(await self._rendered("target_audience"))
        answer = await self._signed_in(account, {"target_audience": audience})
        token = str(answer.get("id_token") or "")
        if not token:
            raise self._denied("Google answered without an id_token")
        about = {"token_type": "Bearer", "audience": audience}
        return Fetched({**dict.fromkeys(ID_TOKEN_FIELDS, token), **about}, self._lifetime(_seconds_of_jwt(token)))

    async def _google_access_token(self) -> Fetched:
        credential = await self._credential(await self._rendered("auth"))
        account = self._account(credential.name, credential.data)
        scopes = await self._rendered("scopes")
        if not all(isinstance(scope, str) and scope for scope in scopes):
            raise self._denied("its scopes are not all texts")
        answer = await self._signed_in_for(account, " ".join(scopes))
        token = str(answer["access_token"])
        return Fetched(
            {**dict.fromkeys(TOKEN_FIELDS, token), "token_type": "Bearer"}, self._lifetime(answer.get("expires_in"))
        )

    # -- secrets

    async def _secrets(self) -> Mapping[str, str]:
        names: Mapping[str, Any] = await self._rendered("map")
        credential = await self._credential(await self._rendered("auth"))
        if self._entry.config["provider"] == "credential":
            missing = sorted(str(name) for name in names.values() if name not in credential.data)
            if missing:
                raise self._denied(f"the credential {credential.name!r} has no field {_cut(', '.join(missing), 200)}")
            return {key: credential.data[name] for key, name in names.items()}
        if self._entry.config["provider"] == "aws":
            return {key: await self._aws_secret(str(name), credential) for key, name in names.items()}
        token = await self._access_token(credential)
        return {key: await self._secret_version(str(name), credential, token) for key, name in names.items()}

    async def _secret_version(self, name: str, credential: Credential, token: str | None = None) -> str:
        """A secret of Google Secret Manager."""
        path = name.strip().strip("/")
        if "/" not in path:
            project = self._account(credential.name, credential.data).get("project_id")
            if not project:
                raise self._denied(f"write projects/PROJECT/secrets/{_cut(path, 100)}: the credential names no project")
            path = f"projects/{project}/secrets/{path}"
        if "/versions/" not in path:
            path = f"{path}/versions/latest"
        token = token or await self._access_token(credential)
        endpoint = str(await self._rendered("endpoint") or GOOGLE_SECRET_MANAGER).rstrip("/")
        answer = await self._call(
            {
                "url": f"{endpoint}/v1/{quote(path, safe='/')}:access",
                "headers": {"Authorization": f"Bearer {token}", "Accept": "application/json"},
            }
        )
        try:
            content = base64.b64decode(answer["payload"]["data"])
        except (KeyError, TypeError, ValueError):
            raise self._denied(f"the answer for {_cut(path, 200)} holds no secret") from None
        return self._text_of(content)

    async def _aws_secret(self, name: str, credential: Credential) -> Any:
        """A secret of AWS Secrets Manager, or one of its fields."""
        keys = UserKeys.of(credential.data)
        region = credential.data.get("region")
        if keys is None or not region:
            fields = "access_key_id, secret_access_key and region"
            raise self._denied(f"the credential {credential.name!r} has no keys of AWS: it needs {fields}")
        name, _, field_name = name.strip().partition("#")
        url = str(await self._rendered("endpoint") or f"https://secretsmanager.{region}.amazonaws.com").rstrip("/")
        body = json.dumps({"SecretId": name})
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}
        signed = signed_headers(
            keys, str(region), "secretsmanager", "POST", f"{url}/", headers, body.encode(), datetime.now(UTC)
        )
        answer = self._object(await self._call({"url": f"{url}/", "method": "POST", "headers": signed, "body": body}))
        value = answer.get("SecretString")
        if value is None:
            try:
                value = self._text_of(base64.b64decode(answer.get("SecretBinary") or ""))
            except (ValueError, TypeError):
                raise self._denied(f"the answer for {_cut(name, 200)}: SecretBinary is not base64") from None
        self._remember(Credential(self._entry.name, "secret", {"value": value}))
        if not field_name:
            return value
        try:
            return stored(json.loads(value)[field_name])
        except InvalidValue as error:
            message = f"the field {_cut(field_name, 100)} of the secret {_cut(name, 200)} cannot be used: {error}"
            raise self._denied(message) from None
        except (ValueError, TypeError, KeyError, RecursionError):
            message = f"the secret {_cut(name, 200)} has no field {_cut(field_name, 100)}"
            raise self._denied(message) from None

    def _text_of(self, content: bytes) -> str:
        """A secret as text: as base64 if it is none."""
        try:
            value = content.decode()
        except UnicodeDecodeError:
            value = base64.b64encode(content).decode()
        self._remember(Credential(self._entry.name, "secret", {"value": value}))
        return value

    # -- Google

    async def _access_token(self, credential: Credential) -> str:
        for key in ("access_token", "token"):
            if credential.data.get(key):
                return str(credential.data[key])
        answer = await self._signed_in_for(self._account(credential.name, credential.data), GOOGLE_SCOPE)
        return str(answer["access_token"])

    async def _signed_in_for(self, account: Mapping[str, Any], scope: str) -> Mapping[str, Any]:
        """The answer that holds an access token."""
        answer = await self._signed_in(account, {"scope": scope})
        if not answer.get("access_token"):
            raise self._denied("Google answered without an access_token")
        return answer

    async def _signed_in(self, account: Mapping[str, Any], claims: Mapping[str, str]) -> Mapping[str, Any]:
        """The answer of the token endpoint to an assertion that the service account signs (RFC 7523)."""
        url = token_url(account)
        try:
            signed = assertion(account, claims)
        except Unusable:
            raise self._denied("the private_key of the service account cannot be read") from None
        self._remember(Credential(self._entry.name, "assertion", {"assertion": signed}))
        form = {"grant_type": GRANT_TYPE, "assertion": signed}
        request = {"url": url, "method": "POST", "headers": {"Content-Type": FORM}, "body": form}
        answer = self._object(await self._call(request))
        self._remember(Credential(self._entry.name, "response", answer))
        return answer

    def _account(self, name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The key file of a service account."""
        try:
            account = account_of(data)
        except Unusable as error:
            raise self._denied(f"the credential {name!r} {error}") from None
        self._remember(Credential(name, "service_account", account))
        return account

    # -- what all use

    def _denied(self, message: str) -> ToolFailure:
        return secret_failure(self._entry, DENIED, message)

    def _object(self, answer: Any) -> Mapping[str, Any]:
        """An answer that has to be a JSON object, whatever its content type."""
        try:
            answer = json.loads(answer) if isinstance(answer, str) else answer
        except (ValueError, RecursionError):
            raise self._denied("the answer of its source is not JSON") from None
        if not isinstance(answer, Mapping):
            raise self._denied("the answer of its source is not an object")
        try:
            checked: Mapping[str, Any] = stored(answer)
        except InvalidValue as error:
            raise self._denied(f"the answer of its source cannot be used: {error}") from None
        return checked

    async def _rendered(self, key: str, **extra: Any) -> Any:
        scope = build_scope(
            workload=self._command.workload,
            ctx={},
            steps={},
            loops=frozenset(),
            execution_id=self._command.execution_id,
            keychain=await self._views(self._entry.needs),
            extra=extra,
        )
        return render_tree(self._entry.config.get(key), scope)

    async def _credential(self, name: Any) -> Credential:
        try:
            credential = await credential_named(self._context, "keychain", str(name))
        except ToolFailure as failure:
            code = UNAVAILABLE if failure.error["retryable"] else DENIED
            raise secret_failure(self._entry, code, str(failure)) from None
        self._remember(credential)
        return credential

    async def _call(self, config: Mapping[str, Any]) -> Any:
        """The body of the answer: JSON, or text."""
        delay = FIRST_DELAY_SECONDS
        for attempt in range(1, MAX_ATTEMPTS + 1):
            request = {"method": "GET", "follow_redirects": False, **config}
            call = ToolCall("http", self._entry.name, request, timeout=CALL_SECONDS)
            outcome = await self._load_tool("http").run(call, self._context)
            error = outcome.error or {}
            if outcome.status == "ok":
                if outcome.data["status_code"] >= 300:
                    raise self._denied(f"its source answered {outcome.data['status_code']}, which is not followed")
                return _body_of(outcome.data)
            if not error.get("retryable"):
                break
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(delay)
                delay *= 2
        code = UNAVAILABLE if error.get("retryable") else DENIED
        raise secret_failure(self._entry, code, str(error.get("message") or "its source gave no reason"))


def _token_request(request: Mapping[str, Any], credential: Credential | None) -> dict[str, Any]:
    """The configuration of the request; `credential`: with which it is authenticated."""
    headers = {"Accept": "application/json", **(request["headers"] or {})}
    names = {name.lower() for name in headers}
    body: Any = request["data"]
    config: dict[str, Any] = {"url": request["endpoint"], "method": request["method"]}
    if credential is not None and {"client_id", "client_secret"} <= credential.data.keys():
        # RFC 6749, 2.3.1 and 4.4.2
        pair = ":".join(quote(str(credential.data[key]), safe="") for key in ("client_id", "client_secret"))
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        if isinstance(body, Mapping | None):
            body = {"grant_type": "client_credentials", **(body or {})}
    elif credential is not None:
        config["auth"] = credential.name
    if request["method"] == "GET":
        return {**config, "headers": headers, "params": body if isinstance(body, Mapping) else {}}
    if "content-type" not in names:
        headers["Content-Type"] = FORM
    return {**config, "headers": headers, "body": body}


def _body_of(data: Mapping[str, Any]) -> Any:
    """JSON, or text, also of a content type that the tool does not know as such: AWS has one of its own."""
    body = data["data"]
    if data.get("encoding") != "base64":
        return body
    try:
        return base64.b64decode(body).decode()
    except UnicodeDecodeError:
        return body


def _seconds_of_jwt(token: str) -> float | None:
    """How long a JWT is still valid; its signature is not checked, since it is not ours to trust."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) - time.time()
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _cut(text: str, length: int) -> str:
    """For messages; with a sign where it was cut, by which the beginning of a secret is recognized."""
    return text if len(text) <= length else f"{text[:length]}…"
