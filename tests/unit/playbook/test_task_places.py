from __future__ import annotations

from noetl_serverless.playbook.document import read_document
from noetl_serverless.playbook.scripts import scripts_of
from noetl_serverless.playbook.task_places import tasks_of
from noetl_serverless.tools.plans import lint

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workflow:
  - step: a
    tool: [{name: x, kind: noop}, {name: y, kind: noop}]
    compensate: {tool: {kind: http, url: "http://x", methodd: DELETE}}
  - step: b
    tool: {kind: noop}
    compensate: {tool: [{name: z, kind: python, script: {uri: undo.py}}]}
  - {step: c, tool: {kind: noop}, compensate: none}
"""


def test_the_tasks_of_steps_and_of_what_undoes_them_are_found() -> None:
    found = [path[1:] for path, _ in tasks_of(read_document(PLAYBOOK).root)]
    undone = [(0, "compensate", "tool"), (1, "compensate", "tool", 0)]
    assert found == [(0, "tool", 0), (0, "tool", 1), undone[0], (1, "tool"), undone[1], (2, "tool")]
    assert [path[1:] for path, _ in scripts_of(read_document(PLAYBOOK).root)] == [(*undone[1], "script")]


def test_a_fault_in_the_config_of_what_undoes_a_step_is_found() -> None:
    pointers = [fault.pointer for fault in lint(PLAYBOOK)]
    assert pointers.count("/workflow/0/compensate/tool/methodd") == 1
