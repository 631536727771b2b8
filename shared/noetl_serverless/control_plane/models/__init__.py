"""The bodies of requests and answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from ...playbook.catalog_path import catalog_path
from ...playbook.part import NAME_PATTERN
from ...protocol import StorableText


class RequestModel(BaseModel):
    """A request. An unknown field is an error."""

    # a cold start builds the models that it needs, not all
    model_config = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)


class AnswerModel(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(defer_build=True)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_ID = r"^[0-9]{1,19}$"
# a 64-bit id in decimal; a number is accepted, too
Id = Annotated[str, Field(pattern=_ID, examples=["310764862443520001"]), BeforeValidator(_as_text)]


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"this must be a number, not {str(value).lower()}")
    return value


# where true would be read as 1
NoBool = BeforeValidator(_no_bool)


def _in_utc(value: datetime) -> datetime:
    """An offset may move the first and the last day of the calendar out of it."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the instant lies outside the years 1 to 9999 in UTC") from None


# an instant that the database can store
Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]


def _version_or_latest(value: object) -> object:
    # a union would have one error for each of its parts
    number = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if isinstance(value, str) and value.isascii() and value.isdigit():
        number = int(value[:11])
    if value is not None and value != "latest" and not 1 <= number < 1 << 31:
        raise ValueError("this must be an integer of at least 1, or 'latest'")
    return value


VersionOrLatest = Annotated[
    Annotated[int, Field(ge=1, lt=1 << 31)] | Literal["latest"], BeforeValidator(_version_or_latest)
]


def _path_prefix(value: str) -> str:
    """A path as the catalog has it: without leading and trailing slashes."""
    path = value.strip("/")
    if not path:
        raise ValueError(
            "the path is empty; give a path such as team/load, a prefix such as team, or omit it to list all"
        )
    return path


# what the patterns of requests ask for, in the words of their errors
PATTERNS: Final[Mapping[str, str]] = {
    _ID: "an id, which has 1 to 19 digits",
    r"^[0-9]{1,19}(,[0-9]{1,19}){0,99}$": "1 to 100 ids with commas between them",
    "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$": "a UUID",
    r"^[0-9a-f]{64}$": "a SHA-256, which has 64 hexadecimal digits",
    r"^[^\x00]*$": "a text without the character NUL",
    r"^[^/\s\x00][^/\x00]*$": "a name that has no '/' and does not begin with a space",
    r"^[^/\x00]*[^/\d\x00][^/\x00]*$": "a name that has no '/' and is no number",
    r"^[^\s\x00]+$": "a text without spaces",
    NAME_PATTERN: "a name of letters, digits and _, which does not begin with a digit",
}

# where a playbook is named
PlaybookPath = Annotated[StorableText, AfterValidator(catalog_path)]
PathPrefix = Annotated[
    StorableText, AfterValidator(_path_prefix), Field(description="List only this path and everything below it.")
]
