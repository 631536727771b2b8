from __future__ import annotations

import re
from typing import Any

import pytest
from tests.integration.control_plane.claiming_loop import RESULTS, run_claiming_loop
from tests.integration.control_plane.conftest import Client, FakeWorker

from noetl_serverless.playbook.scope import build_scope
from noetl_serverless.playbook.template import Template
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.worker.execution.rendering import ReferenceLoader

LOOP = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: loop, path: demo/loop}
workflow:
  - step: each
    loop: {in: "{{ [10, 20, 30] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
    tool: {kind: python, code: "result = n"}
"""


@pytest.fixture
async def looping(user: Client) -> str:
    answer = await user.post("/api/catalog/register", {"content": LOOP})
    assert answer.status == 200, answer.body
    return str((await user.post("/api/execute", {"path": "demo/loop"})).json["execution_id"])


async def test_a_loop_s_results_are_read_as_they_come_and_in_order(
    user: Client, worker: Client, hands: FakeWorker, looping: str
) -> None:
    ref = {
        "kind": "result_ref",
        "ref": f"noetl://execution/{looping}/result/each/00000000",
        "store": "disk",
        "key": f"{looping}/each/0.json",
        "scope": "execution",
        "expires_at": None,
        "meta": {"content_type": "application/json", "bytes": 2, "sha256": "0", "created_at": "2025-01-01T00:00:00Z"},
    }
    commands = await hands.claim()
    while commands:
        command = commands.pop()
        start, end = command["frame"]["start"], command["frame"]["end"]
        data: dict[str, Any] = {"ref": ref} if start == 1 else {"data": [n * 10 for n in range(start, end)]}
        frame = {"start": start, "end": end, "ok": end - start, "failed": 0}
        commands += (await hands.report(command, frame=frame, **data))["commands"]
    assert (await user.get(f"/api/executions/{looping}")).json["status"] == "COMPLETED"
    generation = (await user.get(f"/api/executions/{looping}/events", event_type="loop.opened")).json[0]["generation"]
    manifest = await worker.get(f"/api/results/manifest/{looping}/each/{generation}")
    parts = manifest.json["parts"]
    assert [(part["start"], part["end"], part["data"]) for part in parts] == [
        (0, 1, [0]),
        (1, 2, None),
        (2, 3, [20]),
    ]
    assert parts[1]["ref"]["ref"] == ref["ref"]
    answer = (await user.get("/api/aggregate/loop/results", execution_id=looping, step_name="each")).json
    # the second one is not in the store
    assert (answer["status"], answer["results"], answer["count"], answer["next"]) == ("ok", [0], 3, 1)
    assert answer["stats"] == {"total": 3, "success": 3, "failed": 0}
    answer = (await user.get("/api/aggregate/loop/results", execution_id=looping, step_name="each", after=1)).json
    assert (answer["results"], [part["start"] for part in answer["refs"]], answer["next"]) == ([], [1], 2)
    answer = (await user.get("/api/aggregate/loop/results", execution_id=looping, step_name="each", after=2)).json
    assert (answer["results"], answer["refs"], answer["next"]) == ([20], [], None)


async def test_the_list_is_the_one_that_templates_have_also_of_what_is_stored_by_reference(
    user: Client, hands: FakeWorker, looping: str, results_url: str
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    commands = await hands.claim()
    while commands:
        command = commands.pop()
        start, end = command["frame"]["start"], command["frame"]["end"]
        rows = [None if n == 2 else {"n": n} for n in range(start, end)]
        stored = await externalise(
            rows,
            Place(execution_id=looping, step="each", suffix=str(start)),
            stores,
            Output(inline_bytes=0 if start else 1000),
        )
        frame = {"start": start, "end": end, "ok": end - start, "failed": 0}
        commands += (await hands.report(command, frame=frame, **stored))["commands"]
    answer = (await user.get("/api/aggregate/loop/results", execution_id=looping, step_name="each")).json
    assert (await user.get(f"/api/executions/{looping}")).json["status"] == "COMPLETED"

    async def manifest(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        path = f"/api/results/manifest/{execution_id}/{step}/{generation}"
        page: dict[str, Any] = (await user.get(path, after=after)).json
        return page

    ref = {"kind": "manifest", "ref": f"noetl://execution/{looping}/manifest/each/1", "count": 3}
    outcome = {"status": "ok", "ref": {**ref, "extracted": {"stats": answer["stats"]}}}
    scope: dict[str, Any] = {
        "workload": {},
        "ctx": {},
        "steps": {"each": outcome},
        "loops": {"each"},
        "execution_id": looping,
    }
    loader = ReferenceLoader(Resolver(stores, manifest))
    listed = await loader.render(lambda fetch: Template("{{ each }}").render(build_scope(**scope, fetch=fetch)))
    assert answer["results"] == listed == [{"n": 0}, {"n": 1}, None]

    part = await user.get(f"/api/result/{looping}/each")
    assert part.status == 409, "a part of the results is given as if it were all"
    assert f"noetls result get {looping} each" in part.json["detail"], "what to do is not said"
    assert part.json["title"] == "The step is a loop, with many results"
    assert (await user.get(part.json["loop_results"])).json["results"] == listed
    whole = await user.get("/api/result/resolve", ref=ref["ref"])
    (path,) = re.findall(r"GET (\S+)", whole.json["detail"])
    assert (await user.get(path)).json["parts"], "the advice leads nowhere"
    assert (answer["refs"], answer["next"], answer["stats"]["total"]) == ([], None, 3)


async def test_a_result_is_at_the_place_of_its_item_though_one_before_it_has_not_run(
    user: Client, hands: FakeWorker, looping: str
) -> None:
    async def read(after: int) -> tuple[list[Any], int, int | None]:
        answer = await user.get("/api/aggregate/loop/results", execution_id=looping, step_name="each", after=after)
        return answer.json["results"], answer.json["count"], answer.json["next"]

    commands = {command["frame"]["start"]: command for command in await hands.claim()}
    await hands.report(commands[1], frame={"start": 1, "end": 2, "ok": 1, "failed": 0}, data=["b"])
    assert (await read(0), await read(1)) == (([None, "b"], 1, None), (["b"], 1, None))
    assert (await user.post(f"/api/executions/{looping}/cancel", {})).status == 200
    assert (await read(0), await read(1)) == (([None, "b"], 1, None), (["b"], 1, None))


async def test_the_rows_that_a_loop_claimed_are_read_past_claims_that_found_less(
    user: Client, hands: FakeWorker
) -> None:
    id = await run_claiming_loop(user, hands)
    assert (await user.get(f"/api/executions/{id}")).json["status"] == "COMPLETED"

    async def manifest(execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        answer = await user.get(f"/api/results/manifest/{execution_id}/{step}/{generation}", after=after)
        assert answer.status == 200, answer.body
        page: dict[str, Any] = answer.json
        return page

    ref = {"kind": "manifest", "ref": f"noetl://execution/{id}/manifest/each/1", "count": len(RESULTS)}
    assert (await Resolver(ResultStores(FsspecResultStore("memory://none")), manifest).load(ref))["results"] == RESULTS
    answer = (await user.get("/api/aggregate/loop/results", execution_id=id, step_name="each")).json
    assert (answer["results"], answer["stats"]) == (RESULTS, {"total": 9, "success": 9, "failed": 0})
    assert answer["next"] is None, "the claims that found nothing are no page"
    assert answer["places"] == [{"start": 0, "end": 6}, {"start": 8, "end": 11}], (
        "it is not said whose results they are"
    )


async def test_a_step_that_is_no_loop_has_no_loop_results(user: Client, started: str) -> None:
    answer = await user.get("/api/aggregate/loop/results", execution_id=started, step_name="first")
    assert answer.status == 404
    assert (await user.get("/api/aggregate/loop/results", execution_id=started)).status == 400
    assert (await user.get(f"/api/results/manifest/{started}/first/x")).status == 404
