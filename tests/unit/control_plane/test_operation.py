"""The bound on what an operation answers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from noetl_serverless.control_plane.operation import BOTH, USERS, Operation, respond
from noetl_serverless.errors import AnswerTooLarge
from noetl_serverless.limits import ANSWER_BYTES


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
