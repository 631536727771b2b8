"""A playbook whose results go to stores that it names, and where they went."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tests.e2e.stack import Stack

from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.store.connection import connect

# characters: within an entry of NATS, and beyond a chunk of PostgreSQL
SMALL, LARGE = 300_000, 2_500_000
STEP = """
  - step: {name}
    tool:
      kind: python
      code: "result = 'x' * n"
      input: {{n: {characters}}}
      output: {{store: {{kind: {kind}}}}}
    next: {{arcs: [{{step: {following}}}]}}"""
PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: stores, path: e2e/stores}}
workflow:{steps}
  - step: end
    tool:
      kind: python
      code: "result = {{{lengths}}}"
      input: {{{inputs}}}
"""
# not of workers that have written without a check of their leases
ROWS = """
SELECT r.step, r.store FROM noetl.result_ref r WHERE r.execution_id = CAST(:id AS bigint) AND NOT EXISTS (
    SELECT FROM noetl.result_object o WHERE o.key = r.key AND o.worker IS NULL)"""


def playbook(*kinds: str) -> str:
    """Two steps for each kind of store, and one that reads what they have put, and returns how long each is."""
    names = [f"{kind}_{size}" for kind in kinds for size in (SMALL, LARGE)]
    steps = [
        STEP.format(name=name, characters=name.split("_")[1], kind=name.split("_")[0], following=following)
        for name, following in zip(names, [*names[1:], "end"], strict=True)
    ]
    return PLAYBOOK.format(
        steps="".join(steps),
        lengths=", ".join(f"'{name}': len({name})" for name in names),
        inputs=", ".join(f'{name}: "{{{{ {name} }}}}"' for name in names),
    )


def stored_by_step(stack: Stack, execution_id: str) -> dict[str, str]:
    run: Any = Layout(stack.data).running()
    with closing(connect(run["database_url"])) as database:
        return dict(database.run(ROWS, id=execution_id))
