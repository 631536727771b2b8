"""The root key `keychain`: where the secrets of a playbook come from.

Its values are resolved by workers only, at the moment of a tool call. `{{ keychain.name.field }}` may therefore stand
only in what a worker renders for a tool: see `trees`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag, WithJsonSchema

from .numbers import seconds
from .part import Part
from .template import has_markers

MAX_ENTRIES = 100
MAX_FIELDS = 100
# a token or secret that does not say how long it is valid
DEFAULT_TTL_SECONDS = 3600.0
# a URL that nobody answers
DEFAULT_CALLBACK_SECONDS: Final = 7 * 86_400.0
MAX_CALLBACK_SECONDS: Final = 366 * 86_400.0
# for all APIs of Google Cloud
GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

# how a kind is written -> the kind
KINDS: Final[Mapping[str, str]] = {
    "secret_manager": "secret_manager",
    "secrets": "secret_manager",
    "oauth2": "oauth2",
    "google_id_token": "google_id_token",
    "google_access_token": "google_access_token",
    "bearer": "bearer",
    "static": "static",
    "credential": "credential",
    "credential_ref": "credential",
    "callback": "callback",
}
# kinds whose values are fetched from elsewhere and kept for a while; the others are at hand whenever they are used
FETCHED: Final = frozenset({"secret_manager", "oauth2", "google_id_token", "google_access_token"})
TOKEN_FIELDS: Final = frozenset({"token", "access_token"})
ID_TOKEN_FIELDS: Final = TOKEN_FIELDS | {"id_token"}
# what is told with a token, and is no secret
ABOUT_TOKEN: Final = frozenset({"token_type"})
ABOUT_ID_TOKEN: Final = ABOUT_TOKEN | {"audience"}
CALLBACK_FIELDS: Final = frozenset({"url", "token", "expires_at"})
# as the name of a signal in `protocol`
SIGNAL_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/]{1,200}")

ENTRY_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_-]*$"
EntryName = Annotated[str, StringConstraints(pattern=ENTRY_PATTERN, max_length=100)]
Text = Annotated[str, StringConstraints(min_length=1)]
FieldMap = Annotated[dict[str, Text], Field(min_length=1, max_length=MAX_FIELDS)]
Seconds = Annotated[float, Field(ge=1, le=31 * 86_400)]


class Entry(Part):
    name: EntryName = Field(description="Templates read it as keychain.NAME.FIELD.")

    @property
    def fields(self) -> frozenset[str] | None:
        """The fields that it has; None if that is not known before it is resolved."""
        return None


class ScopedEntry(Entry):
    """Playbooks have these keys at entries of most kinds, with an effect on those that are fetched."""

    scope: Literal["local", "global", "shared"] = Field(
        "local",
        description=(
            "Who shares a fetched value. local: one execution. shared: also its sub-playbooks that declare the same "
            "entry. global: all executions of this version of the playbook for which the entry is rendered to the "
            "same. It has no effect on values that are not fetched: those of kinds bearer, static and credential"
        ),
    )
    auto_renew: bool = Field(
        False,
        description=(
            "Whether a fetched value is fetched again in the last tenth of its life, and at least its last 30 s, while "
            "it is still used"
        ),
    )


class Fetched(ScopedEntry):
    ttl: Seconds | None = Field(
        None,
        description=(
            "Seconds that a fetched value is kept at most. Default: what the answer says of a token, an hour for a "
            "secret"
        ),
    )


class SecretManagerEntry(Fetched):
    """Secrets of a secret store."""

    kind: Literal["secret_manager", "secrets"] = Field(description="Both mean the same.")
    provider: Literal["gcp", "aws", "credential"] = Field(
        description=(
            "gcp: Google Secret Manager. aws: AWS Secrets Manager. credential: a stored credential, whose fields `map` "
            "names."
        )
    )
    auth: Text = Field(
        description="Name of the stored credential: of a service account, for gcp; of type aws, for aws."
    )
    map: FieldMap = Field(
        description=(
            "Field -> secret. For gcp: projects/PROJECT/secrets/SECRET, with /versions/VERSION unless the latest is "
            "meant, or the name of a secret in the project of the service account. For aws: its name or ARN, with "
            "#FIELD for a field of a secret that is a JSON object."
        )
    )
    endpoint: Text | None = Field(
        None,
        description="URL of its API; by default https://secretmanager.googleapis.com, or that of AWS in the region.",
    )

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(self.map)


class OAuth2Entry(Fetched):
    """A token of any token endpoint, such as one for client credentials."""

    kind: Literal["oauth2"]
    endpoint: Text = Field(description="URL of the token endpoint.")
    method: Literal["GET", "POST"] = Field("POST", description="HTTP method.")
    headers: dict[str, Any] = Field({}, description="Request headers.")
    data: dict[str, Any] | str | None = Field(
        None,
        description=(
            "Body of the request: an object is sent as a form, unless the headers have a content type of JSON. With "
            "method GET: query parameters."
        ),
    )
    auth: Text | None = Field(
        None,
        description=(
            "Name of a stored credential. Templates in endpoint, headers and data may read its fields as auth.FIELD; "
            "if none does, the request is authenticated with it. One with client_id and client_secret is sent by HTTP "
            "Basic authentication, with grant_type client_credentials unless data says otherwise."
        ),
    )
    map: FieldMap | None = Field(
        None, description="Field -> name of a field of the answer, or a template over `response`. Default: the answer."
    )

    @property
    def fields(self) -> frozenset[str] | None:
        return None if self.map is None else frozenset(self.map)


class GoogleIdTokenEntry(Fetched):
    """An identity token of a Google service account: fields token, access_token and id_token, which are the same;
    token_type, which is Bearer, and audience."""

    kind: Literal["google_id_token"]
    target_audience: Text = Field(description="Who the token is for: the URL of the service that is called.")
    auth: Text | None = Field(
        None, description="Name of the stored credential of the service account, or of one that may read its secret."
    )
    service_account_credential: Text | None = Field(None, description="Another name for `auth`.")
    service_account_secret: Text | None = Field(
        None, description="Secret of Google Secret Manager that is the service account's key file."
    )
    endpoint: Text | None = Field(None, description="URL of Secret Manager's API.")

    @property
    def fields(self) -> frozenset[str]:
        return ID_TOKEN_FIELDS | ABOUT_ID_TOKEN


class GoogleAccessTokenEntry(Fetched):
    """An access token of a Google service account, for APIs of Google's: fields token and access_token, which are the
    same, and token_type, which is Bearer."""

    kind: Literal["google_access_token"]
    auth: Text = Field(description="Name of the stored credential of the service account.")
    scopes: Annotated[list[Text], Field(min_length=1, max_length=MAX_FIELDS)] = Field(
        [GOOGLE_SCOPE], description="What the token is for."
    )

    @property
    def fields(self) -> frozenset[str]:
        return TOKEN_FIELDS | ABOUT_TOKEN


class BearerEntry(ScopedEntry):
    """A token as it is: fields token and access_token, which are the same."""

    kind: Literal["bearer"]
    token: Text = Field(description="The token, as a template over other entries.")

    @property
    def fields(self) -> frozenset[str]:
        return TOKEN_FIELDS


class StaticEntry(ScopedEntry):
    """Values as they are."""

    kind: Literal["static"]
    map: dict[str, Any] = Field(min_length=1, max_length=MAX_FIELDS, description="Field -> value.")

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(self.map)


class CredentialEntry(ScopedEntry):
    """A stored credential."""

    kind: Literal["credential", "credential_ref"] = Field("credential", description="Both mean the same.")
    credential: Text | None = Field(None, description="Name of the credential; default: the name of the entry.")
    ref: Text | None = Field(None, description="Another name for `credential`.")
    type: Text | None = Field(
        None, description="The type that the credential must have; credential or credential_ref means any."
    )


def _seconds(value: Any) -> Any:
    return seconds(value) if isinstance(value, str) else value


class CallbackEntry(Entry):
    """A URL by which somebody without an account sends a signal to the execution, or decides on an approval. It gives
    one answer, to the next wait for its signal. Fields: url; token, which is its last part; expires_at."""

    kind: Literal["callback"]
    signal: Text | None = Field(
        None, description="Name of the signal that the URL sends, as in kind: wait. Required, unless there is approval."
    )
    approval: Text | None = Field(
        None, description="Name of the approval that the URL decides on, as in kind: wait. Required without signal."
    )
    ttl: Annotated[
        float,
        BeforeValidator(_seconds),
        Field(ge=1, le=MAX_CALLBACK_SECONDS),
        WithJsonSchema({"anyOf": [{"type": "number", "minimum": 1}, {"type": "string"}]}),
    ] = Field(
        DEFAULT_CALLBACK_SECONDS,
        description=(
            "How long the URL is valid from when a step reads it, in seconds or with a unit: 900, 15m, 2h, 3d. At most "
            "366 days"
        ),
    )

    @property
    def fields(self) -> frozenset[str]:
        return CALLBACK_FIELDS


def kind_of(value: Any) -> str | None:
    """The kind of an entry of the document, or as it is written if there is no such kind."""
    if not isinstance(value, Mapping):
        return getattr(value, "kind", "static")
    kind = value.get("kind")
    if kind is None and ("ref" in value or "credential" in value):
        return "credential"
    return KINDS.get(kind, kind) if isinstance(kind, str) else None


AnyEntry: TypeAlias = Annotated[
    Annotated[SecretManagerEntry, Tag("secret_manager")]
    | Annotated[OAuth2Entry, Tag("oauth2")]
    | Annotated[GoogleIdTokenEntry, Tag("google_id_token")]
    | Annotated[GoogleAccessTokenEntry, Tag("google_access_token")]
    | Annotated[BearerEntry, Tag("bearer")]
    | Annotated[StaticEntry, Tag("static")]
    | Annotated[CredentialEntry, Tag("credential")]
    | Annotated[CallbackEntry, Tag("callback")],
    Discriminator(kind_of),
]


def conflicts(entry: Entry) -> Iterator[tuple[str, str]]:
    """(key, message) for keys that are missing or exclude each other."""
    match entry:
        case GoogleIdTokenEntry():
            if entry.auth is not None and entry.service_account_credential is not None:
                yield "service_account_credential", "give either auth or service_account_credential, not both"
            if entry.auth is None and entry.service_account_credential is None:
                yield "kind", "'auth' is required: the name of the stored credential of the service account"
        case CredentialEntry():
            if entry.credential is not None and entry.ref is not None:
                yield "ref", "give either credential or ref, not both"
        case CallbackEntry():
            if entry.signal is not None and entry.approval is not None:
                yield "approval", "give either signal or approval, not both"
            if entry.signal is None and entry.approval is None:
                yield "kind", "'signal' or 'approval' is required: the name that a step with kind: wait waits for"
            for key, name in (("signal", entry.signal), ("approval", entry.approval)):
                if name is not None and not has_markers(name) and not SIGNAL_NAME.fullmatch(name):
                    yield key, "the name of a signal has 1 to 200 characters, no '/' and no control characters"
        case SecretManagerEntry():
            if entry.provider == "credential" and entry.endpoint is not None:
                yield "endpoint", "'endpoint' requires provider: gcp or aws"
