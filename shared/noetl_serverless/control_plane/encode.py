"""A model as the JSON of an answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def encode(answer: BaseModel, without: Any = None) -> bytes:
    """`without`: fields to leave out, as pydantic's `exclude`."""
    return answer.__pydantic_serializer__.to_json(answer, by_alias=True, exclude=without)
