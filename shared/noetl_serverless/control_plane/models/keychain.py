from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from ...store.keychain import CachedSecret
from ...telemetry.mask import MASK
from . import AnswerModel, Id, RequestModel

Scope = Literal["local", "global", "shared"]


class SelectSecrets(RequestModel):
    execution_id: Id | None = Field(default=None, description="Only those that end with this execution.")
    scope: Scope | None = None


class ListSecrets(SelectSecrets):
    after: str = Field(default="", max_length=500, description="Only those after this one, as given by `next`.")
    limit: int = Field(default=100, ge=1, le=1000)


class SecretEntry(AnswerModel):
    """A cached value, without the value."""

    status: Literal["success", "expired"]
    keychain_name: str
    catalog_id: str
    cache_key: str
    inputs: str = Field(description="SHA-256 of what it was fetched from.")
    credential_type: str = Field(description="Kind of the entry.")
    cache_type: Literal["secret", "token"]
    scope_type: Scope
    execution_id: str | None = Field(description="Execution that it ends with; null for a global one.")
    token_data: dict[str, str] = Field(description="Fields; the values are masked.")
    auto_renew: bool
    created_at: datetime
    fetched_at: datetime
    expires_at: datetime
    expired: bool

    @classmethod
    def of(cls, secret: CachedSecret) -> SecretEntry:
        return cls(
            status="expired" if secret.expired else "success",
            keychain_name=secret.name,
            catalog_id=str(secret.catalog_id),
            cache_key=secret.cache_key,
            inputs=secret.inputs,
            credential_type=secret.kind,
            cache_type="secret" if secret.kind == "secret_manager" else "token",
            scope_type=secret.scope,
            execution_id=None if secret.execution_id is None else str(secret.execution_id),
            token_data=dict.fromkeys(secret.fields, MASK),
            auto_renew=secret.auto_renew,
            created_at=secret.created_at,
            fetched_at=secret.fetched_at,
            expires_at=secret.expires_at,
            expired=secret.expired,
        )


class DeletedSecrets(AnswerModel):
    status: Literal["deleted"] = "deleted"
    name: str
    count: int
