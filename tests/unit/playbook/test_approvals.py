"""What is a decision on an approval."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.approvals import FIELDS, MAX_COMMENT_CHARACTERS, fault_of


@pytest.mark.parametrize("comment", [{}, {"comment": None}, {"comment": ""}, {"comment": "x" * MAX_COMMENT_CHARACTERS}])
@pytest.mark.parametrize("approved", [True, False])
def test_a_decision_has_perhaps_a_comment(approved: bool, comment: dict[str, Any]) -> None:
    assert fault_of({"approved": approved, **comment}) is None


@pytest.mark.parametrize(
    "data", [None, "sure", [], {}, {"approved": 1}, {"approvd": True}, {"approved": True, "by": 1}]
)
def test_anything_else_is_none(data: Any) -> None:
    assert str(fault_of(data)).startswith("answer with a decision")


def test_of_a_comment_it_says_what_is_wrong() -> None:
    for comment in (7, "x" * (MAX_COMMENT_CHARACTERS + 1)):
        assert str(fault_of({"approved": True, "comment": comment})).startswith("comment: ")


def test_who_decided_is_known_where_that_may_be_said() -> None:
    assert fault_of({"approved": True, "by": {"kind": "user", "name": "ada"}}, FIELDS | {"by"}) is None
