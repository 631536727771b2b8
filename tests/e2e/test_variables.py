"""Variables of an execution on a running stack: set by a user and by steps, read by SQL, REST and the command line."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.faults import eventually
from tests.e2e.stack import Stack

from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.store.connection import connect

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: variables, path: variables/one}
workflow:
  - {step: hold, tool: {kind: wait, signal: go}, next: {arcs: [{step: count}]}}
  - step: count
    tool:
      kind: python
      input: {limit: "{{ vars.limit }}"}
      code: "result = list(range(limit))"
    set: {vars.rows: "{{ output.data | length }}"}
    next: {arcs: [{step: report, when: "{{ vars.rows == vars.limit }}"}]}
  - {step: report, tool: {kind: python, input: {rows: "{{ vars.rows }}"}, code: "result = f'{rows} rows'"}}
"""


@pytest.fixture
def waiting(stack: Stack, tmp_path: Path) -> str:
    """The id of an execution that waits for the signal `go`."""
    (tmp_path / "variables.yaml").write_text(PLAYBOOK)
    id = stack.start(tmp_path / "variables.yaml", {})
    eventually(lambda: "hold" in stack("show", id).out and "parked" in stack("show", id).out)
    return id


def test_what_users_and_steps_set_is_there_after_the_run(stack: Stack, waiting: str) -> None:
    done = stack("vars", waiting, "--set", "limit=7", "--set", "note=as agreed", "--ttl", "1h", "--key", "k")
    assert (done.status, done.out) == (0, "set limit, note\n"), done.err
    assert stack.ask("vars", waiting, "--set", "limit=8", "--key", "k")["status"] == "duplicate"
    stack.ask("signal", waiting, "go")
    stack.events(waiting, follow=True)
    assert stack.ask("show", waiting)["result"] == {"data": "7 rows"}

    assert stack("vars", waiting, "rows").out == "7\n"
    assert stack("vars", waiting, "note").out == "as agreed\n"
    listed = stack.ask("vars", waiting)
    found = {name: (it["value"], it["type"], it["access_count"]) for name, it in listed["variables"].items()}
    assert found == {
        "limit": (7, "user_defined", 0),
        "note": ("as agreed", "user_defined", 1),
        "rows": (7, "step_result", 1),
    }
    assert "as agreed" in stack("vars", waiting).out
    run = Layout(stack.data).running()
    assert run is not None
    with closing(connect(run["database_url"])) as database:
        rows = database.run(
            "SELECT var_name, var_value::text, source_step, expires_at IS NOT NULL FROM noetl.transient "
            "WHERE execution_id = :id ORDER BY var_name",
            id=int(waiting),
        )
    assert rows == [
        ["limit", "7", None, True],
        ["note", '"as agreed"', None, True],
        ["rows", "7", "count", False],
    ]
    assert stack("replay", waiting, "--validate").status == 0
    assert stack.ask("diff", waiting)["empty"], "deciding its log again gives something else"
    refused = stack("vars", waiting, "--set", "limit=9")
    assert refused.status != 0 and "has ended" in refused.err


def test_variables_are_deleted(stack: Stack, waiting: str) -> None:
    stack.ask("vars", waiting, "--set", "a=1", "--set", "b=2", "--set", "c=3")
    assert stack("vars", waiting, "a", "--delete").out == "deleted 1 variable\n"
    assert "no variable 'a'" in stack("vars", waiting, "a").err
    assert stack("vars", waiting, "--delete").out == "deleted 2 variables\n"
    assert stack.ask("vars", waiting)["count"] == 0


@pytest.mark.parametrize(
    "arguments",
    [["--set", "x"], ["x", "--set", "y=1"], ["--delete", "--set", "y=1"], ["--ttl", "1h"], ["--key", "k"]],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_wrong_use(stack: Stack, waiting: str, arguments: list[str]) -> None:
    assert stack("vars", waiting, *arguments).status == 2
