"""Which signals the steps of a playbook wait for."""

from __future__ import annotations

from noetl_serverless.playbook.awaited import Awaited, awaited_of
from noetl_serverless.playbook.load import load_plan

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: x}
workload: {who: boss}
workflow:
  - {step: one, tool: {kind: wait, approval: boss}, next: {arcs: [{step: two}]}}
  - step: two
    tool:
      - {name: before, kind: noop}
      - {name: hold, kind: wait, signal: paid}
"""


def awaited(*, boss: str = "boss", paid: str = "paid") -> Awaited:
    return awaited_of(load_plan(PLAYBOOK.replace("approval: boss", f"approval: {boss}").replace(": paid", f": {paid}")))


def test_the_names_of_steps_and_of_tasks_are_known() -> None:
    assert awaited() == Awaited(frozenset({"paid"}), frozenset({"boss"}), templates=False)


def test_a_name_that_is_also_that_of_a_signal_is_not_only_for_decisions() -> None:
    assert [awaited().is_approval(name) for name in ("boss", "paid", "other")] == [True, False, False]
    assert not awaited(paid="boss").is_approval("boss")


def test_a_name_that_no_step_has_gets_advice_unless_a_template_may_give_it() -> None:
    assert awaited().advice("piad") == "no step of the playbook waits for 'piad'; did you mean 'paid'?"
    assert awaited().advice("qqqqq") == "no step of the playbook waits for 'qqqqq'"
    assert (awaited().advice("boss"), awaited().advice("paid")) == (None, None)
    assert awaited(boss="'{{ workload.who }}'").advice("piad") is None
