from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from google.api_core import exceptions
from google.cloud import scheduler_v1
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.protobuf import json_format
from tests.eventually import eventually
from tests.infra.google_cloud.delivery import Delivery
from tests.infra.google_cloud.identities import IdTokens
from tests.infra.google_cloud.project import Project
from tests.infra.google_cloud.recorder import Recorder
from tests.infra.google_cloud.scheduled_job import ScheduledJob
from tests.infra.google_cloud.service_accounts import ServiceAccounts
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin

PARENT = f"projects/{PROJECT}/locations/{REGION}"


@pytest.fixture
def client(standin: Standin) -> Any:
    return standin.client(CloudSchedulerClient)


def definition(unique: str, port: int, account: str, **more: Any) -> dict[str, Any]:
    return {
        "name": f"{PARENT}/jobs/{unique}",
        "schedule": "0 3 * * *",
        "time_zone": "Europe/Berlin",
        "http_target": {
            "uri": f"http://127.0.0.1:{port}/",
            "http_method": "POST",
            "body": b"{}",
            "headers": {"Content-Type": "application/json"},
            "oidc_token": {"service_account_email": account, "audience": "https://function"},
        },
        **more,
    }


@pytest.fixture
def job(client: Any, unique: str, account: str, target_port: int) -> Any:
    made = client.create_job(parent=PARENT, job=definition(unique, target_port, account))
    yield made
    client.delete_job(name=made.name)


def test_a_job_is_read_back_with_google_s_defaults_and_changed(client: Any, job: Any) -> None:
    found = client.get_job(name=job.name)
    assert found == job
    assert (found.attempt_deadline.seconds, found.state.name) == (180, "ENABLED")
    assert found.schedule_time.hour in (1, 2) and found.schedule_time.minute == 0
    update = {"name": job.name, "schedule": "30 * * * *"}
    changed = client.update_job(job=update, update_mask={"paths": ["schedule"]})
    assert changed.schedule_time.minute == 30 and changed.http_target == job.http_target
    assert job.name in [one.name for one in client.list_jobs(parent=PARENT)]
    with pytest.raises(exceptions.Conflict):
        client.create_job(parent=PARENT, job={"name": job.name})


def test_a_job_that_is_run_by_hand_sends_its_request_with_a_token(
    client: Any, job: Any, account: str, target: Recorder
) -> None:
    client.run_job(name=job.name)
    (arrival,) = target.wait(1)
    assert (arrival.body, arrival.headers["Content-Type"]) == (b"{}", "application/json")
    assert (arrival.headers["X-CloudScheduler"], arrival.headers["User-Agent"]) == ("true", "Google-Cloud-Scheduler")
    assert (arrival.claims()["aud"], arrival.claims()["email"]) == ("https://function", account)


def test_a_failed_run_is_seen_and_tried_again_as_often_as_the_job_says(
    client: Any, unique: str, account: str, target: Recorder, target_port: int
) -> None:
    retries = {"retry_count": 2, "min_backoff_duration": {"nanos": 50_000_000}}
    job = client.create_job(parent=PARENT, job=definition(unique, target_port, account, retry_config=retries))
    target.statuses = [500] * 5
    client.run_job(name=job.name)
    first, second, third = target.wait(3)
    assert second.at - first.at >= 0.05 and third.at - second.at >= 0.1
    time.sleep(0.4)
    assert len(target.arrivals) == 3
    assert client.get_job(name=job.name).status.code == 13
    client.delete_job(name=job.name)


def test_pausing_and_resuming_show_in_the_state(client: Any, job: Any) -> None:
    assert client.pause_job(name=job.name).state.name == "PAUSED"
    assert client.resume_job(name=job.name).state.name == "ENABLED"


@pytest.mark.parametrize("state", ["enabled", "paused", "held"])
async def test_a_job_ticks_at_the_whole_minute_unless_it_is_paused_or_held(
    state: str, target: Recorder, target_port: int
) -> None:
    message = scheduler_v1.Job.pb()(schedule="* * * * *", time_zone="Etc/UTC", state=1 if state != "paused" else 2)
    json_format.ParseDict({"attemptDeadline": "15s"}, message)
    message.http_target.uri = f"http://127.0.0.1:{target_port}/"
    delivery = Delivery(ServiceAccounts(Project(PROJECT, REGION)), IdTokens())
    await delivery.start()
    with time_machine.travel(datetime(2030, 1, 1, 11, 59, 59, 700_000, UTC)):
        job = ScheduledJob(message, delivery)
        job.is_held = state == "held"
        await eventually(lambda: message.schedule_time.ToDatetime() == datetime(2030, 1, 1, 12, 1))
        if state == "enabled":
            await eventually(lambda: target.arrivals)
        await asyncio.sleep(0.1)
        await job.stop()
    await delivery.stop()
    assert len(target.arrivals) == (state == "enabled")


def test_the_administrator_holds_all_jobs(standin: Standin, client: Any, job: Any) -> None:
    assert job.name in standin.admin("POST", "scheduler:hold")["held"]
    assert client.get_job(name=job.name).state.name == "ENABLED"
    assert standin.admin("POST", "scheduler:release")["held"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "every minute"},
        {"schedule": "* * * * * *"},
        {"time_zone": "Mars/Olympus"},
        {"attempt_deadline": {"seconds": 3600}},
        {"http_target": {"uri": "x"}},
        {"http_target": {"uri": "http://x", "oauth_token": {"service_account_email": "x@y"}}},
        {"retry_config": {"retry_count": 6}},
        {"pubsub_target": {"topic_name": "x"}},
        {"name": "other"},
    ],
)
def test_a_job_that_is_not_valid_or_not_implemented_is_refused(
    client: Any, unique: str, account: str, wrong: dict[str, Any]
) -> None:
    given = {**definition(unique, 1, account), **wrong}
    if "pubsub_target" in wrong:
        del given["http_target"]
    with pytest.raises((exceptions.BadRequest, exceptions.MethodNotImplemented)):
        client.create_job(parent=PARENT, job=given)


def test_a_service_account_may_not_see_jobs(standin: Standin, job: Any, account: str) -> None:
    with pytest.raises(exceptions.Forbidden, match=r"cloudscheduler\.jobs\.get"):
        standin.client(CloudSchedulerClient, account).get_job(name=job.name)
