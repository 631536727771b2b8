"""The words for what pydantic refuses."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from noetl_serverless.telemetry.fault_text import text_of


class Model(BaseModel):
    a: int


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def refuse(value: object) -> object:
    raise ValueError("the path is empty")


TIME = "this must be a time such as 2026-05-01T08:00Z"
CASES: list[tuple[Any, Any, str]] = [
    (Model, {}, "this is required"),
    (Model, 3, "this must be an object"),
    (int, "10s", "this must be an integer"),
    (int, 0.5, "this must be an integer"),
    (int, [], "this must be an integer"),
    (float, "x", "this must be a number"),
    (bool, 3, "this must be true or false"),
    (str, 3, "this must be a string"),
    (dict, [], "this must be an object"),
    (list, {}, "this must be a list"),
    (datetime, "x", TIME),
    (datetime, "2026-05-01T99:00", TIME),
    (
        AwareDatetime,
        "2026-05-01T08:00",
        "this must be a time with its offset from UTC, such as 2026-05-01T08:00Z or 2026-05-01T08:00+02:00",
    ),
    (Literal["skip", "catch_up"], "skipp", "this must be one of skip, catch_up"),
    (Literal["latest"], "x", "this must be latest"),
    (Colour, "x", "this must be one of red, blue"),
    (Annotated[int, Field(ge=1)], 0, "this must be at least 1"),
    (Annotated[int, Field(le=9)], 10, "this must be at most 9"),
    (Annotated[int, Field(gt=1)], 1, "this must be more than 1"),
    (Annotated[int, Field(lt=9)], 9, "this must be less than 9"),
    (Annotated[str, Field(min_length=1)], "", "this must not be empty"),
    (Annotated[str, Field(max_length=1)], "ab", "this must have at most 1 character"),
    (Annotated[dict[str, int], Field(min_length=1)], {}, "this must not be empty"),
    (Annotated[list[int], Field(min_length=2)], [], "this must have at least 2 entries"),
    (Annotated[list[int], Field(max_length=1)], [1, 2], "this must have at most 1 entry"),
    (Annotated[str, Field(pattern="^[0-9]+$")], "x", "this must be a number of digits"),
    (Annotated[str, Field(pattern="^x$")], "y", "this does not match the pattern ^x$"),
    (Annotated[str, AfterValidator(refuse)], "y", "the path is empty"),
]


@pytest.mark.parametrize(("model", "value", "text"), CASES)
def test_it_says_what_the_value_must_be(model: Any, value: Any, text: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(model).validate_python(value)
    assert text_of(raised.value.errors()[0], {"^[0-9]+$": "a number of digits"}) == text


def test_what_is_no_json_says_so() -> None:
    with pytest.raises(ValidationError) as raised:
        Model.model_validate_json(b'{"a": ')
    assert text_of(raised.value.errors()[0]).startswith("this is not JSON: EOF while parsing")
