"""MiniStack, run in its own environment, where there is nothing of ours: with an action named as AWS names it.

Who may call a queue's SendMessage may call its batch; there is no action SendMessageBatch that a policy could name
(https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html), but MiniStack asks for one.
"""

from __future__ import annotations

from typing import Any

from ministack.core import iam_actions

SAME = {"sqs:SendMessageBatch": "sqs:SendMessage"}
_extract = iam_actions.extract_iam_action


def action(*request: Any) -> str | None:
    found = _extract(*request)
    return SAME.get(found, found)


iam_actions.extract_iam_action = action

if __name__ == "__main__":
    from ministack.app import main

    main()
