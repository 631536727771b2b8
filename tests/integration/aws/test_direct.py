"""A pool whose workers have the orchestrator in their own process, under the official runtime client."""

from __future__ import annotations

import json

from noetl_serverless.store.connection import connect

from .conftest import Deploy
from .test_control_plane import rotate

# in the pool `calls`, and with them steps of other pools and a child
MIXED = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: mixed, path: t/mixed}
workflow:
  - step: first
    tool: {kind: noop}
    next: {arcs: [{step: second}]}
  - step: second
    tool: {kind: python, code: "result = {'n': 2}"}
    next: {arcs: [{step: each}]}
  - step: each
    loop: {in: "{{ range(20) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 5}}
    tool: {kind: noop}
    next: {arcs: [{step: below}]}
  - step: below
    tool: {kind: playbook, path: t/below}
    next: {arcs: [{step: last}]}
  - step: last
    tool: {kind: python, code: "result = {'n': n + 1}", input: {n: "{{ second.n }}"}}
"""
BELOW = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: below, path: t/below}
workflow:
  - {step: one, tool: {kind: noop}, next: {arcs: [{step: two}]}}
  - {step: two, tool: {kind: noop}}
"""
LATER = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: later, path: t/later}
workflow:
  - step: retried
    tool:
      kind: http
      url: http://127.0.0.1:1/nobody
      spec: {policy: {rules: [{when: "{{ _attempt < 2 }}", then: {do: retry, attempts: 2, backoff: fixed, delay: 6}}]}}
"""
CALLS = {"calls": ["noop", "http", "playbook"]}


def test_its_steps_run_without_the_control_plane_and_others_wait_for_none_of_them(deploy: Deploy) -> None:
    deployment = deploy(pools=CALLS, direct=["calls"])
    deployment.request("POST", "/api/catalog/register", {"content": BELOW, "resource_type": "Playbook"})
    done = deployment.run(MIXED)
    assert done["status"] == "COMPLETED", done
    assert done["result"]["data"] == {"n": 3}
    assert deployment["worker_calls"].invocations > 0
    assert deployment["worker_calls"].failures == []


def test_it_wakes_the_reconciler_for_a_timer(deploy: Deploy) -> None:
    deployment = deploy(pools=CALLS, direct=["calls"], tick=3600.0)
    execution = deployment.begin(LATER)
    assert deployment.wait(execution)["status"] == "FAILED"
    assert "timer.fired" in {event["event_type"] for event in deployment.events(execution)}


def test_its_password_is_rotated_while_it_works(deploy: Deploy) -> None:
    deployment = deploy(pools=CALLS, direct=["calls"])
    deployment.request("POST", "/api/catalog/register", {"content": BELOW, "resource_type": "Playbook"})
    deployment.run(MIXED)
    (name,) = (name for name in deployment.secret_names if name.startswith("database_role/"))
    before = json.loads(deployment.secret(name))
    rotate(deployment, name)
    after = json.loads(deployment.secret(name))
    assert (after["username"], after["password"] != before["password"]) == (before["username"], True)
    # warm, and started anew
    assert deployment.run(MIXED)["status"] == "COMPLETED"
    for environment in list(deployment["worker_calls"].environments):
        environment.kill()
    assert deployment.run(MIXED)["status"] == "COMPLETED"


def test_a_pool_that_runs_users_code_does_not_start(deploy: Deploy) -> None:
    deployment = deploy(start=False, pools={"calls": ["noop", "python"]}, direct=["calls"])
    deployment.migrate()
    answer = deployment["worker_calls"].invoke({"noetl": "drain"})
    assert answer.failed
    assert "the pool calls runs users' code (python), which must not run" in answer.payload["errorMessage"]


def test_once_no_worker_is_direct_nobody_signs_in_as_one(deploy: Deploy, postgres_url: str) -> None:
    deploy(start=False, pools=CALLS, direct=["calls"]).migrate()
    deploy(start=False).migrate()
    database = connect(postgres_url)
    role = f"{database.run('SELECT current_database()')[0][0]}_worker"
    assert database.run("SELECT rolcanlogin FROM pg_roles WHERE rolname = :role", role=role) == [[False]]
    database.quit()
