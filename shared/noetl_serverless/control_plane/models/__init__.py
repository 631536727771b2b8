"""The bodies of requests and answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Given(BaseModel):
    """What a caller sends: a field that is not known is an error, not a surprise later."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# a 64-bit id in decimal; a number is accepted, too
Id = Annotated[str, BeforeValidator(_as_text), Field(pattern=r"^[0-9]{1,19}$", examples=["310764862443520001"])]
