"""Which steps wait for what a callback URL sends."""

from __future__ import annotations

import pytest

from noetl_serverless.playbook.callbacks import is_approval, may_be_awaited, steps_that_wait
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: x}
keychain: [{name: url, kind: callback, ENTRY}]
workload: {who: boss}
workflow:
  - {step: send, input: {url: "{{ keychain.url.url }}"}, next: {arcs: [{step: one}]}}
  - {step: one, tool: {kind: wait, ONE}, next: {arcs: [{step: two}]}}
  - step: two
    loop: {in: [1, 2], iterator: item}
    tool:
      - {name: before, kind: noop}
      - {name: hold, kind: wait, TWO}
"""


def plan(entry: str, one: str, two: str) -> Plan:
    return load_plan(PLAYBOOK.replace("ENTRY", entry).replace("ONE", one).replace("TWO", two))


@pytest.mark.parametrize(
    ("entry", "one", "two", "steps", "awaited"),
    [
        ("signal: a", "signal: a", "signal: b", ["one"], True),
        ("signal: a", "signal: a", "signal: a", ["one", "two"], True),
        # the same signals
        ("signal: a", "approval: a", "for: 1s", ["one"], True),
        ("approval: a", "signal: b", "signal: a", ["two"], True),
        ("signal: a", "signal: b", "for: 1s", [], False),
        ("signal: a", "until: '2027-01-01T00:00:00Z'", "for: 1s", [], False),
        # a name that is known only in a run
        ("signal: a", "signal: b", "signal: 'x{{ item }}'", [], True),
        ("approval: '{{ workload.who }}'", "approval: '{{ workload.who }}'", "signal: a", ["one"], True),
        ("approval: '{{ workload.who }}'", "approval: boss", "signal: a", [], True),
        ("approval: '{{ workload.who }}'", "for: 1s", "for: 1s", [], False),
    ],
)
def test_a_wait_for_its_signal_is_found(entry: str, one: str, two: str, steps: list[str], awaited: bool) -> None:
    found = plan(entry, one, two)
    url = found.keychain["url"]
    assert (steps_that_wait(found, url), may_be_awaited(found, url)) == (steps, awaited)
    assert is_approval(url) == entry.startswith("approval")


@pytest.mark.parametrize(("written", "ttl"), [("", 604_800.0), (", ttl: 2d", 172_800.0), (", ttl: 90", 90.0)])
def test_it_is_valid_for_a_time(written: str, ttl: float) -> None:
    assert plan(f"signal: a{written}", "signal: a", "signal: a").keychain["url"].ttl == ttl
