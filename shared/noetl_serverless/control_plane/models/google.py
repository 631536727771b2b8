from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from ...playbook.keychain import GOOGLE_SCOPE
from . import AnswerModel, RequestModel

OneScope = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^\S+$")]


class RequestToken(RequestModel):
    credential: str | None = Field(default=None, description="Name of the stored credential of a service account.")
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
