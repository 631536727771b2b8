"""What an operation may answer, and what is none of its caller's faults."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from pydantic import BaseModel
from starlette.requests import Request

from noetl_serverless.control_plane.operation import BOTH, USERS, Operation, respond
from noetl_serverless.control_plane.tokens import Caller
from noetl_serverless.errors import AnswerTooLarge, Forbidden
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


@pytest.mark.parametrize(
    ("role", "says"),
    [
        (
            "gateway",
            "it is not available through a gateway, whatever the roles of its user: an operator calls the control ",
        ),
        ("worker", "it is not allowed for the role worker"),
    ],
)
async def test_a_refusal_is_in_words_of_who_reads_it(role: Any, says: str) -> None:
    verifier = SimpleNamespace(caller=lambda token: Caller(role, "x"))
    request = Request({"type": "http", "method": "POST", "path": "/it", "headers": [(b"authorization", b"Bearer t")]})
    with pytest.raises(Forbidden) as raised:
        await answering("POST", frozenset({"operator"}))._run(cast(Any, SimpleNamespace(verifier=verifier)), request)
    assert raised.value.detail.startswith(says)
    assert ("role gateway" in raised.value.detail) is False


class Answer(BaseModel):
    status: Literal["queued"]


async def test_an_answer_that_does_not_fit_its_model_is_no_fault_of_the_request() -> None:
    async def handler(call: Any) -> Any:
        return Answer.model_validate({"status": "s3cret"})

    read = Operation("it", "GET", "/it", summary="", tag="", roles=USERS, handler=handler, answer=Answer)
    verifier = SimpleNamespace(caller=lambda token: Caller("operator", "ada"))
    request = Request({"type": "http", "method": "GET", "path": "/it", "headers": [(b"authorization", b"Bearer t")]})
    with pytest.raises(TypeError, match=r"it has no valid Answer: /status: this must be queued$") as raised:
        await read._run(cast(Any, SimpleNamespace(verifier=verifier)), request)
    assert "s3cret" not in str(raised.value) and raised.value.__suppress_context__
