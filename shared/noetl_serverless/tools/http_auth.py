"""Authentication of HTTP requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .port import Credential, ToolContext, ToolFailure, basic, credential_named

Scheme = Literal["bearer", "basic", "api_key", "header"]

# fields of credentials, by what they hold; the first that is set counts
TOKENS = ("token", "access_token", "bearer")
USERS = ("username", "user")
PASSWORDS = ("password",)
KEYS = ("key", "api_key", "value", "token")
HEADERS = ("header", "header_name", "name")


class HttpAuth(BaseModel):
    """A credential and the way to send it; without `type`, the credential's own type decides."""

    model_config = ConfigDict(extra="forbid")

    credential: str = Field(min_length=1, description="Name of the stored credential.")
    type: Scheme | None = Field(default=None, description="Type: bearer, basic, api_key or header.")
    header: str | None = Field(default=None, description="Name of the header, for api_key and header.")
    param: str | None = Field(
        default=None, description="Name of a query parameter to use instead of a header, for api_key."
    )

    @model_validator(mode="after")
    def _place(self) -> Self:
        if self.type is not None and (why := _misplaced(self, self.type)):
            raise ValueError(why)
        return self


@dataclass(slots=True)
class Authorization:
    """What to add to a request; none of it is sent to another origin."""

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, str] = field(default_factory=dict, repr=False)
    credential: Credential | None = None

    def mask(self, text: str) -> str:
        return text if self.credential is None else self.credential.mask(text)


async def authorize(auth: str | HttpAuth | None, context: ToolContext) -> Authorization:
    """ToolFailure `credential.*` when the credential is missing or does not fit."""
    if auth is None:
        return Authorization()
    spec = HttpAuth(credential=auth) if isinstance(auth, str) else auth
    credential = await credential_named(context, "http", spec.credential)
    scheme = spec.type or _SCHEMES.get(credential.type)
    if scheme is None:
        raise _unfit(credential, f"is of type {credential.type!r}; http supports bearer, basic, api_key and header")
    if why := _misplaced(spec, scheme):
        raise _unfit(credential, f"is sent as {scheme}: {why}")
    authorization = Authorization(credential=credential)
    match scheme:
        case "bearer":
            authorization.headers["Authorization"] = f"Bearer {_one_of(credential, *TOKENS)}"
        case "basic":
            pair = basic(_one_of(credential, *USERS), _one_of(credential, *PASSWORDS))
            authorization.headers["Authorization"] = f"Basic {pair}"
        case "api_key" | "header":
            _keyed(authorization, spec, credential)
    return authorization


def _misplaced(spec: HttpAuth, scheme: Scheme) -> str | None:
    """Why the scheme cannot be sent where `spec` says."""
    if spec.header is not None and spec.param is not None:
        return "give either header or param, not both"
    if spec.param is not None and scheme != "api_key":
        return "param requires type: api_key"
    if spec.header is not None and scheme not in ("api_key", "header"):
        return "header requires type: api_key or header"
    return None


def _keyed(authorization: Authorization, spec: HttpAuth, credential: Credential) -> None:
    data = credential.data
    headers = data.get("headers")
    if isinstance(headers, dict) and not spec.header:
        authorization.headers.update({str(name): str(value) for name, value in headers.items()})
        return
    value = _one_of(credential, *KEYS)
    param = spec.param or data.get("param")
    if param and not spec.header:
        authorization.params[str(param)] = value
        return
    header = spec.header or next((data[name] for name in HEADERS if data.get(name)), None)
    authorization.headers[str(header or "X-API-Key")] = value


_SCHEMES: dict[str, Scheme] = {
    "bearer": "bearer",
    "oauth2": "bearer",
    "basic": "basic",
    "api_key": "api_key",
    "header": "header",
}
_FIELDS: dict[Scheme, frozenset[str]] = {
    "bearer": frozenset(TOKENS),
    "basic": frozenset((*USERS, *PASSWORDS)),
    "api_key": frozenset((*KEYS, *HEADERS, "headers", "param")),
    "header": frozenset((*KEYS, *HEADERS, "headers", "param")),
}
CREDENTIALS = {type_: _FIELDS[scheme] for type_, scheme in _SCHEMES.items()}


def _one_of(credential: Credential, *names: str) -> str:
    for name in names:
        value: Any = credential.data.get(name)
        if value not in (None, ""):
            return str(value)
    raise _unfit(credential, f"has no field {' or '.join(map(repr, names))}")


def _unfit(credential: Credential, why: str) -> ToolFailure:
    return ToolFailure("credential", "credential.unfit", f"http: credential {credential.name!r} {why}")
