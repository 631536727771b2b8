"""An execution of a loop that claims its items, with claims that find less than they may."""

from __future__ import annotations

from tests.integration.control_plane.conftest import Client, FakeWorker

CLAIMS = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: claims, path: demo/claims}
workflow:
  - step: each
    loop:
      iterator: job
      cursor: {kind: postgres, auth: jobs, claim: "SELECT {{ __frame_max_rows }}"}
      spec: {mode: cursor, max_in_flight: 3, frame: {max_rows: 4}}
    tool: {kind: python, code: "result = 1"}
"""
# the results, of which each is its index: claims of up to four found 4, 2, 3 and then nothing
RESULTS = [0, 1, 2, 3, 4, 5, 8, 9, 10]


async def run_claiming_loop(user: Client, hands: FakeWorker) -> str:
    """The id of an execution that has run the loop `each` to its end."""
    assert (await user.post("/api/catalog/register", {"content": CLAIMS})).status == 200
    id = str((await user.post("/api/execute", {"path": "demo/claims"})).json["execution_id"])
    found = [4, 2, 3, 0, 0, 0]
    commands = await hands.claim()
    while commands:
        command = commands.pop(0)
        start, rows = command["frame"]["start"], found.pop(0)
        frame = {"start": start, "end": start + rows, "ok": rows, "failed": 0, "drained": not rows}
        data = [start + row for row in range(rows)]
        commands += (await hands.report(command, frame=frame, data=data))["commands"]
    return id
