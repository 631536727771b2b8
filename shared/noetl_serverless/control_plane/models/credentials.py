from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BeforeValidator, Field, StringConstraints, model_validator

from ...playbook.keychain import GOOGLE_SCOPE
from ...protocol import StorableText
from ...store.credentials import Credential
from . import AnswerModel, RequestModel


def _split(value: object) -> object:
    return [tag.strip() for tag in value.split(",") if tag.strip()] if isinstance(value, str) else value


class PutCredential(RequestModel):
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^/\s\x00][^/\x00]*$")
    type: StorableText = Field(
        default="generic",
        min_length=1,
        max_length=100,
        validation_alias=AliasChoices("type", "credential_type"),
    )
    data: dict[str, Any] = Field(
        repr=False, description="Secret of the credential. It is encrypted before it is stored."
    )
    meta: dict[str, Any] | None = None
    tags: Annotated[list[StorableText] | None, BeforeValidator(_split)] = None
    description: StorableText | None = None


class ListCredentials(RequestModel):
    type: StorableText | None = None
    q: StorableText | None = Field(
        default=None, description="List only credentials with this text in name, description or tags."
    )
    limit: int = Field(default=1000, ge=1, le=1000)
    offset: int = Field(default=0, ge=0)


class GetCredential(RequestModel):
    include_data: bool = Field(default=False, description="Include the secret; only for workers and operators.")
    execution_id: StorableText | None = Field(
        default=None, description="Execution that needs the credential; recorded in the audit log."
    )


class CredentialEntry(AnswerModel):
    id: str
    name: str
    type: str
    meta: dict[str, Any]
    tags: list[str]
    description: str | None
    created_at: datetime
    updated_at: datetime
    data: dict[str, Any] | None = Field(default=None, repr=False)

    @classmethod
    def of(cls, credential: Credential) -> CredentialEntry:
        return cls(
            id=str(credential.credential_id),
            name=credential.name,
            type=credential.type,
            meta=credential.meta,
            tags=credential.tags,
            description=credential.description,
            created_at=credential.created_at,
            updated_at=credential.updated_at,
            data=credential.data,
        )


class StoredCredential(CredentialEntry):
    warnings: list[str] = Field(default_factory=list, description="What is allowed, but may not be intended.")


class CredentialEntries(AnswerModel):
    items: list[CredentialEntry]
    filter: dict[str, Any]
    next: int | None = Field(default=None, description="Value of `offset` for the next page; null on the last page.")


class Deleted(AnswerModel):
    status: str = "deleted"
    name: str | None


OneScope = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\s\x00]+$")]


class RequestToken(RequestModel):
    credential: StorableText | None = Field(
        default=None, description="Name of the stored credential of a service account."
    )
    service_account: dict[str, Any] | None = Field(
        default=None, repr=False, description="Key file of a service account, instead of a stored one. It is not kept."
    )
    scopes: list[OneScope] = Field(default=[GOOGLE_SCOPE], min_length=1, max_length=100)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.credential is None) == (self.service_account is None):
            raise ValueError("give either credential or service_account")
        return self


class GoogleToken(AnswerModel):
    access_token: str = Field(repr=False)
    token_type: str
    expires_in: float = Field(description="Seconds that it is valid.")
    expires_at: datetime
    scopes: list[str]
    service_account: str = Field(description="E-mail address of the service account.")
