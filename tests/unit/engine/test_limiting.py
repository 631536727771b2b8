"""Keys of limits that cannot be counted by."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine.limiting import _limits
from noetl_serverless.playbook.plan import Concurrency
from noetl_serverless.playbook.template import Template
from noetl_serverless.playbook.values import InvalidValue


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "null"), ({"a": 1}, '{"a":1}'), (True, "true"), ("", '""'), ("x" * 300, '"' + "x" * 99)],
)
def test_a_key_that_is_no_text_is_shown_as_json(value: Any, shown: str) -> None:
    scope: Any = {"workload": {"tenant": value}}
    concurrency = Concurrency(Template("{{ workload.tenant }}"), 1)
    with pytest.raises(InvalidValue) as raised:
        _limits(concurrency, None, scope)
    assert str(raised.value) == f"spec.concurrency.key must give a text of 1 to 200 characters, not {shown}"
