from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from ...protocol import StorableText
from ...store.keychain import CachedSecret, Scope
from ...telemetry.mask import MASK
from . import AnswerModel, Id, Instant, NoBool, RequestModel

MAX_TTL_SECONDS = 31 * 86_400.0
CacheType = Literal["secret", "token"]


def cache_type_of(kind: str) -> CacheType:
    return "secret" if kind == "secret_manager" else "token"


class SelectSecrets(RequestModel):
    execution_id: Id | None = Field(default=None, description="Only those that end with this execution.")
    scope: Scope | None = Field(default=None, validation_alias=AliasChoices("scope", "scope_type"))


class GetSecret(SelectSecrets):
    include_data: bool = Field(default=False, description="Include the value; only for operators.")


class ListSecrets(SelectSecrets):
    after: StorableText = Field(
        default="", max_length=500, description="Only those after this one, as given by `next`."
    )
    limit: int = Field(default=100, ge=1, le=1000)


class GiveSecret(RequestModel):
    token_data: dict[str, Any] = Field(
        min_length=1,
        max_length=100,
        repr=False,
        description="Fields of the secret. It is encrypted before it is stored.",
    )
    credential_type: StorableText | None = Field(
        default=None, description="Kind of the keychain entry, which is checked if it is given."
    )
    cache_type: CacheType | None = Field(
        default=None, description="secret for the kind secret_manager, otherwise token; it is checked if it is given."
    )
    scope_type: Scope = Field(
        default="global",
        description="Who uses it: all executions of this version of the playbook (global); one of them (local), or one "
        "and its sub-playbooks (shared), with which it ends.",
    )
    execution_id: Id | None = Field(default=None, description="That execution, for local and shared.")
    parent_execution_id: Id | None = Field(default=None, description="Another name for `execution_id`, for shared.")
    ttl_seconds: Annotated[float | None, NoBool] = Field(
        default=None, ge=1, le=MAX_TTL_SECONDS, description="Default: `ttl` of the entry, or an hour."
    )
    expires_at: Instant | None = Field(default=None, description="Instead of `ttl_seconds`.")
    auto_renew: bool | None = Field(
        default=None,
        description="Whether it is fetched, as the entry says, before it expires; by default what the entry says.",
    )
    renew_config: None = Field(default=None, description="Not supported: the entry says how a value is renewed.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ttl_seconds is not None and self.expires_at is not None:
            raise ValueError("give either ttl_seconds or expires_at, not both")
        given = [id for id in (self.execution_id, self.parent_execution_id) if id is not None]
        if self.scope_type == "global" and given:
            raise ValueError("a global secret belongs to no execution; omit its id, or set scope_type: local")
        if self.scope_type == "local" and (self.execution_id is None or self.parent_execution_id is not None):
            raise ValueError("scope_type: local requires execution_id, and no parent_execution_id")
        if self.scope_type == "shared" and len(given) != 1:
            raise ValueError("scope_type: shared requires either execution_id or parent_execution_id")
        return self


class GivenSecret(AnswerModel):
    status: Literal["success"] = "success"
    message: str
    keychain_name: str
    catalog_id: str
    cache_key: str
    scope_type: Scope
    execution_id: str | None
    expires_at: datetime
    ttl_seconds: float
    auto_renew: bool


class SecretEntry(AnswerModel):
    """A cached value. A value that was given over REST is used instead of a fetched one."""

    status: Literal["success", "expired"]
    keychain_name: str
    catalog_id: str
    cache_key: str
    inputs: str = Field(description="SHA-256 of what it was fetched from; `given` if it was given over REST.")
    given: bool
    credential_type: str = Field(description="Kind of the entry.")
    cache_type: Literal["secret", "token"]
    scope_type: Scope
    execution_id: str | None = Field(description="Execution that it ends with; null for a global one.")
    token_data: dict[str, Any] = Field(
        repr=False, description="Fields; the values are masked, unless an operator asks for them."
    )
    auto_renew: bool
    renew_config: None = Field(description="Always null: the playbook's entry says how a value is renewed.")
    created_at: datetime
    fetched_at: datetime
    expires_at: datetime
    ttl_seconds: float = Field(description="Seconds until then; 0 if it has expired.")
    expired: bool
    accessed_at: datetime | None = Field(description="Time of the latest use that was counted.")
    access_count: int = Field(
        description="Number of uses since it was given or first fetched; of workers, one in a minute is counted."
    )

    @classmethod
    def of(cls, secret: CachedSecret, data: dict[str, Any] | None = None) -> SecretEntry:
        """`data`: the value, if it is to be shown."""
        return cls(
            status="expired" if secret.expired else "success",
            keychain_name=secret.name,
            catalog_id=str(secret.catalog_id),
            cache_key=secret.cache_key,
            inputs=secret.inputs,
            given=secret.given,
            credential_type=secret.kind,
            cache_type=cache_type_of(secret.kind),
            scope_type=secret.scope,
            execution_id=None if secret.execution_id is None else str(secret.execution_id),
            token_data=dict.fromkeys(secret.fields, MASK) if data is None else data,
            auto_renew=secret.auto_renew,
            renew_config=None,
            created_at=secret.created_at,
            fetched_at=secret.fetched_at,
            expires_at=secret.expires_at,
            ttl_seconds=round(secret.seconds_left, 3),
            expired=secret.expired,
            accessed_at=secret.accessed_at,
            access_count=secret.access_count,
        )


class DeletedSecrets(AnswerModel):
    status: Literal["deleted"] = "deleted"
    name: str
    count: int
