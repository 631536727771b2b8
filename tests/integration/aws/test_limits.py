"""Lambda's limits: time, caps, deliveries that come twice, and processes that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.faults import eventually
from tests.infra.deployment import Deployment
from tests.infra.lambda_service import sqs_record

from .conftest import Deploy

ARN = "arn:aws:sqs:eu-west-1:123456789012:noetl-shared"

SLOW_LOOP = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: slow, path: t/slow}
workload: {count: 24, seconds: 0.5}
workflow:
  - step: each
    loop:
      in: "{{ range(workload.count) | list }}"
      iterator: n
      spec: {mode: parallel, max_in_flight: 2}
    tool:
      kind: python
      input: {n: "{{ iter.n }}", seconds: "{{ workload.seconds }}"}
      code: |
        import time
        time.sleep(seconds)
        result = n
"""
MARKED_LOOP = SLOW_LOOP.replace("time.sleep(seconds)", "time.sleep(seconds); open(marks, 'a').write(f'{n} ')").replace(
    'seconds: "{{ workload.seconds }}"', 'seconds: 0.3, marks: "{{ workload.marks }}"'
)
CHAIN = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: chain, path: t/chain}
workload: {}
workflow:
  - step: first
    tool: {kind: python, code: "result = {'n': 1}"}
    next: {arcs: [{step: second}]}
  - step: second
    tool: {kind: python, input: {n: "{{ first.n }}"}, code: "result = {'n': n + 1}"}
    next: {arcs: [{step: third}]}
  - step: third
    tool: {kind: python, input: {n: "{{ second.n }}"}, code: "result = {'n': n + 1}"}
"""


def results(done: dict[str, Any]) -> list[Any]:
    assert done["status"] == "COMPLETED", done
    found: list[Any] = done["result"]["data"]["results"]
    return found


def outcomes(deployment: Deployment, execution_id: str) -> Counter[str]:
    """How many outcomes of each step's commands the log holds."""
    events = deployment.events(execution_id)
    return Counter(event["step"] for event in events if event["event_type"] in ("call.done", "call.error"))


def test_a_loop_longer_than_the_functions_timeout_goes_on_over_invocations(deploy: Deploy) -> None:
    # of which a cold start beside another load takes some seconds
    deployment = deploy(timeouts={"worker": 12.0}, most={"worker": 1})
    assert results(deployment.wait(deployment.begin(SLOW_LOOP, {"count": 60}))) == list(range(60))
    assert deployment["worker"].invocations > 1
    assert deployment["worker"].failures == [], "no invocation ran into its timeout"


@pytest.mark.parametrize(("way", "error"), [("dies", "Runtime.ExitError"), ("hangs", "Sandbox.Timedout")])
def test_an_invocation_that_dies_or_is_killed_by_its_timeout_loses_nothing(
    deploy: Deploy, tmp_path: Path, way: str, error: str
) -> None:
    deployment = deploy(most={"worker": 2}, timeouts={"worker": 8.0}, settings={"lease": "2"})
    marks = tmp_path / "marks"
    execution = deployment.begin(MARKED_LOOP, {"count": 12, "marks": str(marks)})
    worker = deployment["worker"]
    eventually(lambda: marks.exists() and len(marks.read_text().split()) > 3, pause=0.02)
    for environment in list(worker.environments):
        if way == "dies":
            environment.kill()
        else:
            os.kill(environment.pid, signal.SIGSTOP)
    assert results(deployment.wait(execution)) == list(range(12))
    eventually(lambda: worker.failures)
    assert error in {failure["errorType"] for failure in worker.failures}
    # what was under way ran again, and all the rest once
    ran = Counter(marks.read_text().split())
    assert set(ran) == {str(n) for n in range(12)}


def test_a_delivery_that_comes_twice_does_nothing_twice(deploy: Deploy) -> None:
    deployment = deploy()
    for mapping in deployment.mappings.values():
        mapping.twice = True
    execution = deployment.begin(CHAIN)
    done = deployment.wait(execution)
    assert done["result"]["data"] == {"n": 3}
    assert outcomes(deployment, execution) == {"first": 1, "second": 1, "third": 1}


def test_a_reached_cap_only_delays(deploy: Deploy) -> None:
    deployment = deploy(most={"worker": 1})
    executions = [deployment.begin(SLOW_LOOP, {"count": 4, "seconds": 0.2}) for _ in range(6)]
    for execution in executions:
        assert results(deployment.wait(execution)) == list(range(4))
    assert deployment["worker"].throttles > 0, "the cap was reached"


@pytest.mark.parametrize(
    "code",
    [
        "open('/dev/shm/x', 'w')",
        "os.mkdir('/dev/shm/x')",
        "multiprocessing.Lock()",
        "multiprocessing.shared_memory.SharedMemory(create=True, size=1)",
    ],
)
def test_functions_under_test_find_no_shared_memory_as_on_lambda(deploy: Deploy, code: str) -> None:
    """What they are tested with; every other test here passes without it."""
    deployment = deploy(start=False)
    words = [sys.executable, "-c", f"import os, multiprocessing.shared_memory\n{code}"]
    environment = deployment.variables(deployment.specs["worker"])
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(("OSError", "FileNotFoundError")), done


def test_only_the_messages_that_failed_come_again(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    event = {
        "Records": [
            sqs_record(json.dumps({"function": "shared", "pool": "shared"}), ARN, "good"),
            sqs_record("this is no invocation", ARN, "bad"),
            sqs_record('["nor", "this"]', ARN, "worse"),
        ]
    }
    done = deployment["worker"].invoke(event)
    assert done.payload == {"batchItemFailures": [{"itemIdentifier": "bad"}, {"itemIdentifier": "worse"}]}


def test_invocations_fail_together_when_the_work_they_ask_for_cannot_be_done(deploy: Deploy) -> None:
    deployment = deploy(start=False, settings={"database_url": "postgresql://127.0.0.1:1/nowhere"})
    event = {"Records": [sqs_record("{}", ARN, id) for id in ("one", "two")]}
    # its secrets are there, its database is not
    deployment.secrets.put_secret_value(SecretId="noetl/service_token/reconciler", SecretString="token")
    done = deployment["reconciler"].invoke(event)
    assert done.payload == {"batchItemFailures": [{"itemIdentifier": "one"}, {"itemIdentifier": "two"}]}


def test_an_invocation_that_comes_too_early_is_sent_on(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    message = {"function": "shared", "pool": "shared", "at": int(time.time()) + 5000}
    done = deployment["worker"].invoke({"Records": [sqs_record(json.dumps(message), ARN)]})
    assert done.payload == {"batchItemFailures": []}
    assert _waiting(deployment, "ApproximateNumberOfMessagesDelayed") == 1
    assert _waiting(deployment, "ApproximateNumberOfMessages") == 0


@pytest.mark.parametrize("function", ["worker", "reconciler", "control_plane"])
def test_an_event_that_is_not_its_own_is_an_error(deploy: Deploy, function: str) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    done = deployment[function].invoke({"detail-type": "Scheduled Event", "source": "aws.events"})
    assert done.failed
    assert done.payload["errorType"] == "ValueError"


def _waiting(deployment: Deployment, attribute: str) -> int:
    found = deployment.sqs.get_queue_attributes(QueueUrl=deployment.queues["shared"], AttributeNames=[attribute])
    return int(found["Attributes"][attribute])
