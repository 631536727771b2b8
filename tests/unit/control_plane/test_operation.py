"""Whose fault an error is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from noetl_serverless.control_plane.operation import BOTH, USERS, Operation, refusal_of, respond
from noetl_serverless.errors import AnswerTooLarge, InvalidRequest
from noetl_serverless.limits import ANSWER_BYTES


@pytest.mark.parametrize("value", [2**70, "half \ud800 of it"])
def test_a_value_that_cannot_be_written_is_the_caller_s(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        orjson.dumps({"a": value})
    assert isinstance(refusal_of(caught.value), InvalidRequest)


def test_a_mistake_of_ours_is_not_the_caller_s() -> None:
    # orjson raises TypeError, and so does whoever awaits what cannot be awaited
    error = TypeError("object NoneType can't be used in 'await' expression")
    assert refusal_of(error) is error


def answering(method: Any, roles: frozenset[Any]) -> Operation:
    async def handler(call: Any) -> Any:
        raise NotImplementedError

    return Operation("it", method, "/it", summary="", tag="", roles=roles, handler=handler, answer=BaseModel)


def test_what_a_user_reads_is_refused_if_no_function_could_answer_it() -> None:
    large = respond(b"x" * (ANSWER_BYTES + 1))
    with pytest.raises(AnswerTooLarge, match="it would return 5000001 bytes"):
        answering("GET", USERS)._bounded(large)
    small = respond(b"x" * ANSWER_BYTES)
    assert answering("GET", USERS)._bounded(small) is small


def test_what_has_changed_something_or_is_for_workers_is_answered() -> None:
    large = respond(b"x" * (ANSWER_BYTES + 1))
    assert answering("POST", USERS)._bounded(large) is large
    assert answering("GET", BOTH)._bounded(large) is large
