"""A misspelled --set is said, and what the playbook may read is not."""

from __future__ import annotations

from noetl_serverless.cli.unread import unknown_values

CONTENT = "workload: {alert_percent: 20}\nworkflow:\n  - {step: a, set: {ctx.x: '{{ workload.limit | default(3) }}'}}\n"


def warnings(*names: str) -> list[str]:
    return list(unknown_values(dict.fromkeys(names, 1), {"alert_percent": 20}, CONTENT))


def test_a_name_that_the_playbook_does_not_have_is_reported_with_the_most_similar_one() -> None:
    assert warnings("alert_precent") == [
        "warning: the playbook does not use 'alert_precent'; did you mean 'alert_percent'?"
    ]
    assert warnings("zzz") == ["warning: the playbook does not use 'zzz'"]
    assert len(warnings("alert", "limi")) == 2, "a part of a name is no name"


def test_what_is_declared_or_read_is_not_reported() -> None:
    assert warnings("alert_percent", "limit") == []
