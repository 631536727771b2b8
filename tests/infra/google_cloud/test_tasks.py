from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.tasks_v2 import CloudTasksClient
from tests.infra.google_cloud.conftest import new_account
from tests.infra.google_cloud.recorder import Recorder
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin

PARENT = f"projects/{PROJECT}/locations/{REGION}"


@pytest.fixture
def client(standin: Standin) -> Any:
    return standin.client(CloudTasksClient)


@pytest.fixture
def queue(client: Any, target: Recorder, target_port: int, unique: str, account: str) -> Any:
    """A queue that sends all its tasks to the target, in the name of the account."""
    name = f"{PARENT}/queues/{unique}"
    made = client.create_queue(
        parent=PARENT,
        queue={
            "name": name,
            "http_target": {
                "uri_override": {
                    "scheme": "HTTP",
                    "host": "127.0.0.1",
                    "port": target_port,
                    "path_override": {"path": "/"},
                    "uri_override_enforce_mode": "ALWAYS",
                },
                "http_method": "POST",
                "oidc_token": {"service_account_email": account, "audience": "https://function"},
            },
            "retry_config": {"min_backoff": {"nanos": 100_000_000}, "max_backoff": {"seconds": 1}, "max_doublings": 1},
        },
    )
    yield made
    client.delete_queue(name=name)


def task(body: Any = None, **more: Any) -> dict[str, Any]:
    request = {"url": "https://queue.invalid/", "body": json.dumps(body).encode()}
    return {"http_request": {**request, "headers": {"Content-Type": "application/json"}}, **more}


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_queue_has_google_s_defaults_and_is_read_back_as_it_was_made(client: Any, queue: Any) -> None:
    assert client.get_queue(name=queue.name) == queue
    assert (queue.state.name, queue.rate_limits.max_concurrent_dispatches) == ("RUNNING", 1000)
    assert (queue.retry_config.max_attempts, queue.rate_limits.max_dispatches_per_second) == (100, 500)
    assert queue.http_target.uri_override.host == "127.0.0.1"
    update = {"name": queue.name, "rate_limits": {"max_concurrent_dispatches": 3}}
    changed = client.update_queue(queue=update, update_mask={"paths": ["rate_limits.max_concurrent_dispatches"]})
    assert changed.rate_limits.max_concurrent_dispatches == 3
    assert changed.http_target == queue.http_target
    assert queue.name in [found.name for found in client.list_queues(parent=PARENT)]
    with pytest.raises(exceptions.Conflict):
        client.create_queue(parent=PARENT, queue={"name": queue.name})


def test_a_task_is_sent_where_the_queue_says_in_the_name_of_its_account(
    client: Any, queue: Any, target: Recorder, account: str
) -> None:
    client.create_task(parent=queue.name, task=task({"number": 7}))
    (arrival,) = target.wait(1)
    assert (arrival.path, json.loads(arrival.body)) == ("/", {"number": 7})
    assert arrival.headers["User-Agent"] == "Google-Cloud-Tasks"
    assert arrival.headers["X-CloudTasks-QueueName"] == queue.name.rpartition("/")[2]
    assert arrival.headers["X-CloudTasks-TaskRetryCount"] == "0"
    assert arrival.headers["Content-Type"] == "application/json"
    claims = arrival.claims()
    assert (claims["aud"], claims["email"]) == ("https://function", account)
    while list(client.list_tasks(parent=queue.name)):
        time.sleep(0.01)


def test_a_delayed_task_waits_for_its_time(client: Any, queue: Any, target: Recorder) -> None:
    made = client.create_task(parent=queue.name, task=task(schedule_time=in_seconds(1.0)))
    found = client.get_task(name=made.name)
    assert found.dispatch_count == 0 and not found.http_request.body
    assert client.get_task(request={"name": made.name, "response_view": "FULL"}).http_request.body == b"null"
    (arrival,) = target.wait(1)
    assert arrival.at >= found.schedule_time.timestamp()


def test_a_task_that_fails_is_sent_again_with_growing_pauses(client: Any, queue: Any, target: Recorder) -> None:
    target.statuses = [503, 400, 500]
    client.create_task(parent=queue.name, task=task())
    arrivals = target.wait(4)
    times = [arrival.at for arrival in arrivals]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] >= 0.1 and pauses[1] >= 0.2 and pauses[2] >= 0.4
    assert [arrival.headers["X-CloudTasks-TaskRetryCount"] for arrival in arrivals] == ["0", "1", "2", "3"]
    assert arrivals[3].headers["X-CloudTasks-TaskExecutionCount"] == "1"
    assert arrivals[3].headers["X-CloudTasks-TaskPreviousResponse"] == "500"


def test_a_task_is_given_up_after_the_last_attempt(client: Any, queue: Any, target: Recorder) -> None:
    update = {"name": queue.name, "retry_config": {"max_attempts": 2}}
    client.update_queue(queue=update, update_mask={"paths": ["retry_config.max_attempts"]})
    target.statuses = [500] * 5
    made = client.create_task(parent=queue.name, task=task())
    target.wait(2)
    while list(client.list_tasks(parent=queue.name)):
        time.sleep(0.01)
    with pytest.raises(exceptions.NotFound):
        client.get_task(name=made.name)
    assert len(target.arrivals) == 2


def test_no_more_are_under_way_than_the_queue_permits(client: Any, queue: Any, target: Recorder) -> None:
    update = {"name": queue.name, "rate_limits": {"max_concurrent_dispatches": 2}}
    client.update_queue(queue=update, update_mask={"paths": ["rate_limits"]})
    target.seconds = 0.1
    for _ in range(6):
        client.create_task(parent=queue.name, task=task())
    target.wait(6)
    assert target.most_busy == 2


def test_a_rate_is_kept(client: Any, queue: Any, target: Recorder) -> None:
    update = {"name": queue.name, "rate_limits": {"max_dispatches_per_second": 4}}
    client.update_queue(queue=update, update_mask={"paths": ["rate_limits"]})
    for _ in range(8):
        client.create_task(parent=queue.name, task=task())
    arrivals = target.wait(8)
    # the first four come at once: that is the size of the bucket
    assert arrivals[7].at - arrivals[0].at >= 0.9


def test_a_paused_queue_sends_nothing_but_what_is_run_by_hand(client: Any, queue: Any, target: Recorder) -> None:
    assert client.pause_queue(name=queue.name).state.name == "PAUSED"
    first = client.create_task(parent=queue.name, task=task("first"))
    client.create_task(parent=queue.name, task=task("second"))
    client.run_task(name=first.name)
    target.wait(1)
    time.sleep(0.2)
    assert [arrival.body for arrival in target.arrivals] == [b'"first"']
    client.resume_queue(name=queue.name)
    assert target.wait(2)[1].body == b'"second"'


def test_purged_and_deleted_tasks_are_not_sent(client: Any, queue: Any, target: Recorder) -> None:
    client.pause_queue(name=queue.name)
    names = [client.create_task(parent=queue.name, task=task(index)).name for index in range(3)]
    client.delete_task(name=names[0])
    assert sorted(found.name for found in client.list_tasks(parent=queue.name)) == sorted(names[1:])
    client.purge_queue(name=queue.name)
    assert not list(client.list_tasks(parent=queue.name))
    client.resume_queue(name=queue.name)
    time.sleep(0.2)
    assert not target.arrivals


def test_a_name_is_used_once(client: Any, queue: Any, target: Recorder) -> None:
    name = f"{queue.name}/tasks/once"
    client.create_task(parent=queue.name, task=task(name=name))
    target.wait(1)
    with pytest.raises(exceptions.Conflict, match="existed too recently"):
        client.create_task(parent=queue.name, task=task(name=name))


def test_lost_tasks_are_accepted_and_never_sent(standin: Standin, client: Any, queue: Any, target: Recorder) -> None:
    standin.admin("POST", f"{queue.name}:lose", {"count": 1})
    client.create_task(parent=queue.name, task=task("lost"))
    client.create_task(parent=queue.name, task=task("sent"))
    target.wait(1)
    time.sleep(0.1)
    assert [arrival.body for arrival in target.arrivals] == [b'"sent"']


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule_time": in_seconds(31 * 24 * 3600)},
        {"dispatch_deadline": {"seconds": 1801}},
        {"http_request": {"url": "ftp://x"}},
        {"http_request": {"url": "http://x", "body": b"x" * 2**20}},
        {"http_request": {"url": "http://x", "body": b"x", "http_method": "GET"}},
        {"name": f"{PARENT}/queues/another/tasks/y"},
    ],
)
def test_a_task_that_google_would_not_take_is_refused(client: Any, queue: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(exceptions.BadRequest):
        client.create_task(parent=queue.name, task={**task(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_limits": {"max_concurrent_dispatches": 5001}},
        {"http_target": {"uri_override": {"host": "x", "uri_override_enforce_mode": "IF_NOT_EXISTS"}}},
        {"http_target": {"oauth_token": {"service_account_email": "x@y"}}},
        {"name": "other"},
        {"stackdriver_logging_config": {"sampling_ratio": 1}},
        {"http_target": {"oidc_token": {"service_account_email": "nobody@x.iam.gserviceaccount.com"}}},
    ],
)
def test_a_queue_that_is_not_valid_or_not_implemented_is_refused(
    client: Any, unique: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises((exceptions.BadRequest, exceptions.NotFound, exceptions.MethodNotImplemented)):
        client.create_queue(parent=PARENT, queue={"name": f"{PARENT}/queues/{unique}", **wrong})


def test_who_may_enqueue_may_nothing_else(standin: Standin, client: Any, queue: Any, unique: str) -> None:
    email = new_account(standin, f"{unique}-e")
    theirs = standin.client(CloudTasksClient, email)
    with pytest.raises(exceptions.Forbidden, match=r"cloudtasks\.tasks\.create"):
        theirs.create_task(parent=queue.name, task=task())
    policy = client.get_iam_policy(request={"resource": queue.name})
    policy.bindings.add(role="roles/cloudtasks.enqueuer", members=[f"serviceAccount:{email}"])
    client.set_iam_policy(request={"resource": queue.name, "policy": policy})
    made = theirs.create_task(parent=queue.name, task=task(schedule_time=in_seconds(60)))
    with pytest.raises(exceptions.Forbidden, match=r"cloudtasks\.tasks\.delete"):
        theirs.delete_task(name=made.name)
    with pytest.raises(exceptions.Forbidden, match=r"cloudtasks\.queues\.get"):
        theirs.get_queue(name=queue.name)
    mine = task()
    mine["http_request"]["oidc_token"] = {"service_account_email": email}
    with pytest.raises(exceptions.Forbidden, match=r"iam\.serviceAccounts\.actAs"):
        theirs.create_task(parent=queue.name, task=mine)
