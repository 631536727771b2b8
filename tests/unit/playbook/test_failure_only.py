from __future__ import annotations

import pytest

from noetl_serverless.playbook.failure_only import only_on_failure
from noetl_serverless.playbook.template import Template


@pytest.mark.parametrize(
    ("when", "only"),
    [
        ("event.name == 'call.error'", True),
        ("'step.failed' == event.name", True),
        ("event.name in ['call.error', 'loop.failed', 'step.skipped']", True),
        ("event.name == 'call.error' and error.code == 'http.status'", True),
        ("event.name == 'call.error' or output.status == 'error'", True),
        ("error is defined", True),
        ("event.name == 'call.done'", False),
        ("event.name in ['call.error', 'call.done']", False),
        ("event.name == 'call.error' or ctx.n > 3", False),
        ("event.name != 'call.error'", False),
        ("output.status == 'ok'", False),
        ("output.status == ctx.wanted", False),
        ("output.data.status == 'error'", False),
        ("error is not defined", False),
        ("ctx.n > 3", False),
        ("true", False),
    ],
)
def test_a_condition_that_can_hold_only_after_a_failure_is_known_by_its_text(when: str, only: bool) -> None:
    assert only_on_failure(Template("{{ " + when + " }}")) is only


def test_no_condition_and_a_text_hold_at_any_time() -> None:
    assert not only_on_failure(None)
    assert not only_on_failure(Template("{% if true %}1{% endif %}"))
