from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import psutil
import pytest
from google.api_core import exceptions
from google.cloud.run_v2 import RevisionsClient, ServicesClient
from google.cloud.tasks_v2 import CloudTasksClient
from tests.infra.google_cloud.conftest import new_account
from tests.infra.google_cloud.deployer import MAIN, PARENT, PATIENCE, Deployer
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin, call


@pytest.fixture(scope="module")
def cloud(standin: Standin) -> Iterator[Deployer]:
    cloud = Deployer.of(standin, new_account(standin, "run-tests"))
    yield cloud
    for service in cloud.services.list_services(parent=PARENT):
        cloud.services.delete_service(name=service.name).result()
    assert standin.admin("GET", "instances") == {"instances": []}


@pytest.fixture
def service(cloud: Deployer, unique: str) -> Any:
    """Open to all, with one request at a time for each of two instances."""
    scaling = {"max_instance_count": 2}
    message = cloud.message(cloud.image(), scaling=scaling, max_instance_request_concurrency=1)
    return cloud.deploy(unique, message)


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_service_is_ready_once_an_instance_has_come_up(cloud: Deployer, service: Any) -> None:
    found = cloud.services.get_service(name=service.name)
    assert found.terminal_condition.state.name == "CONDITION_SUCCEEDED"
    assert found.latest_ready_revision == found.latest_created_revision
    assert found.latest_ready_revision.startswith(f"{service.name}/revisions/{service.name.split('/')[-1]}-00001-")
    assert (found.generation, found.observed_generation, list(found.urls)) == (1, 1, [found.uri])
    assert found.template.timeout.seconds == 300
    revisions = cloud.standin.client(RevisionsClient).list_revisions(parent=service.name)
    assert [revision.name for revision in revisions] == [found.latest_ready_revision]
    assert service.name in [one.name for one in cloud.services.list_services(parent=PARENT)]


def test_a_change_is_an_operation_that_ends_with_the_service(cloud: Deployer, service: Any) -> None:
    change = {"name": service.name, "description": "other"}
    begun = cloud.services.update_service(service=change, update_mask={"paths": ["description"]}).operation
    found = cloud.services.transport.operations_client.get_operation(begun.name)
    assert found.done and found.response.type_url == "type.googleapis.com/google.cloud.run.v2.Service"
    with pytest.raises(exceptions.NotFound):
        cloud.services.transport.operations_client.get_operation(f"{PARENT}/operations/none-such")


def test_requests_reach_the_function_as_they_are(cloud: Deployer, service: Any) -> None:
    seen = cloud.call(service, "/some/path?x=1", b"x" * 10**6, X_Own="1", Authorization="Bearer mine").document()
    assert (seen["path"], seen["size"]) == ("/some/path", 10**6)
    assert (seen["headers"]["x-own"], seen["headers"]["authorization"]) == ("1", "Bearer mine")
    assert seen["headers"]["host"] == service.uri.removeprefix("http://")
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"


def test_an_instance_has_the_environment_of_its_template_and_nothing_of_the_machine_s(
    cloud: Deployer, service: Any
) -> None:
    variables = cloud.call(service, "/?variables=").document()
    assert (variables["COLOUR"], variables["FUNCTION_TARGET"]) == ("red", "function")
    assert variables["K_SERVICE"] == service.name.rpartition("/")[2]
    assert variables["K_REVISION"] == service.latest_ready_revision.rpartition("/")[2]
    assert variables["HOME"] != os.environ["HOME"]
    log = cloud.standin.home / "run" / f"{variables['K_SERVICE']}.log"
    assert "this is version 1" in log.read_text()
    assert not variables.keys() & {"USER", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "PIP_INDEX_URL"}


def test_the_metadata_server_says_who_the_function_is(cloud: Deployer, service: Any) -> None:
    def metadata(path: str) -> str:
        return str(cloud.call(service, f"/?metadata={path}").document())

    account = "instance/service-accounts"
    assert metadata("project/project-id") == PROJECT
    assert metadata("project/numeric-project-id").isdigit()
    assert metadata("instance/region").endswith(f"/regions/{REGION}")
    assert metadata(f"{account}/default/email") == cloud.account
    assert json.loads(metadata(f"{account}/{cloud.account}/%3Frecursive%3Dtrue"))["email"] == cloud.account
    token = metadata(f"{account}/default/identity%3Faudience%3Dhttps%3A%2F%2Fx%26format%3Dfull")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["email"]) == ("https://x", cloud.account)
    assert json.loads(metadata(f"{account}/default/token"))["access_token"].startswith("ya29.")


def test_google_s_own_library_finds_the_metadata_server_and_gets_its_tokens(cloud: Deployer, service: Any) -> None:
    variables = cloud.call(service, "/?variables=").document()
    found = {name: value for name, value in variables.items() if name.startswith("GCE_METADATA_")}
    program = """
import google.auth, json
from google.auth.transport.requests import Request
from google.oauth2.id_token import fetch_id_token
credentials, project = google.auth.default()
credentials.refresh(Request())
tokens = {"token": credentials.token, "id_token": fetch_id_token(Request(), "https://x")}
print(json.dumps({"project": project, "email": credentials.service_account_email, **tokens}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=found, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    said = json.loads(done.stdout)
    assert (said["project"], said["email"]) == (PROJECT, cloud.account)
    assert jwt.decode(said["id_token"], options={"verify_signature": False})["email"] == cloud.account
    url = f"{cloud.standin.url}/v1/projects/{PROJECT}"
    with pytest.raises(RuntimeError, match=f"403.* for {cloud.account}"):
        call(url, "GET", token=said["token"])


def test_only_those_who_may_invoke_get_through(cloud: Deployer, unique: str) -> None:
    service = cloud.deploy(unique, cloud.message(cloud.image()), public=False)
    invoker = new_account(cloud.standin, f"{unique}-i")
    token = cloud.id_token(invoker, service.uri)
    assert cloud.call(service).status == 403
    assert cloud.call(service, Authorization="Bearer x.y.z").status == 401
    assert cloud.call(service, Authorization=f"Bearer {token}").status == 403
    cloud.grant(service.name, f"serviceAccount:{invoker}")
    assert cloud.call(service, Authorization=f"Bearer {token}").status == 200
    assert cloud.call(service, Authorization=f"Bearer {cloud.id_token(invoker, 'https://x')}").status == 401
    forged = f"{token.rpartition('.')[0]}.{cloud.id_token(invoker, 'https://x').rpartition('.')[2]}"
    assert cloud.call(service, Authorization=f"Bearer {forged}").status == 401


def test_the_function_s_own_authorization_passes_beside_google_s(cloud: Deployer, unique: str) -> None:
    message = {**cloud.message(cloud.image()), "custom_audiences": ["https://custom"]}
    service = cloud.deploy(unique, message, public=False)
    cloud.grant(service.name, f"serviceAccount:{cloud.account}")
    token = cloud.id_token(cloud.account, "https://custom")
    seen = cloud.call(service, Authorization="Bearer own", X_Serverless_Authorization=f"Bearer {token}").document()
    assert seen["headers"]["authorization"] == "Bearer own"
    head = token.rpartition(".")[0]
    assert seen["headers"]["x-serverless-authorization"] == f"Bearer {head}.SIGNATURE_REMOVED_BY_GOOGLE"


def test_instances_are_started_for_requests_that_come_together_up_to_the_limit(cloud: Deployer, service: Any) -> None:
    # one instance alone would take longer than a second one needs to come up
    replies = cloud.call_together(service, 5, "/?seconds=1")
    assert [reply.status for reply in replies] == [200] * 5
    assert len({reply.document()["pid"] for reply in replies}) == 2
    assert len(cloud.instances(service)) == 2


def test_an_instance_takes_as_many_requests_as_its_concurrency(cloud: Deployer, unique: str) -> None:
    scaling = {"max_instance_count": 1}
    message = cloud.message(cloud.image(), scaling=scaling, max_instance_request_concurrency=4)
    service = cloud.deploy(unique, message)
    began = time.monotonic()
    replies = cloud.call_together(service, 4, "/?seconds=0.5")
    assert len({reply.document()["pid"] for reply in replies}) == 1
    assert time.monotonic() - began < 1.5


def test_a_request_for_which_no_instance_gets_free_in_time_is_refused(cloud: Deployer, unique: str) -> None:
    message = cloud.message(cloud.image(), scaling={"max_instance_count": 1}, max_instance_request_concurrency=1)
    service = cloud.deploy(unique, message)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(cloud.call, service, "/?seconds=60")
        eventually(lambda: any(instance["requests"] for instance in cloud.instances(service)))
        began = time.monotonic()
        assert cloud.call(service).status == 429
        assert time.monotonic() - began >= 10
        cloud.services.delete_service(name=service.name).result()


def test_a_queue_calls_the_function_in_the_name_of_its_account(cloud: Deployer, unique: str) -> None:
    service = cloud.deploy(unique, cloud.message(cloud.image()), public=False)
    email = new_account(cloud.standin, f"{unique}-q")
    tasks = cloud.standin.client(CloudTasksClient)
    host, _, port = service.uri.removeprefix("http://").partition(":")
    override = {"scheme": "HTTP", "host": host, "port": int(port), "path_override": {"path": "/"}}
    queue = tasks.create_queue(
        parent=PARENT,
        queue={
            "name": f"{PARENT}/queues/{unique}",
            "http_target": {
                "uri_override": override,
                "oidc_token": {"service_account_email": email, "audience": service.uri},
            },
            "retry_config": {"min_backoff": {"nanos": 100_000_000}, "max_backoff": {"seconds": 1}},
        },
    )
    task = tasks.create_task(parent=queue.name, task={"http_request": {"url": "https://queue.invalid/", "body": b"{}"}})
    eventually(lambda: tasks.get_task(name=task.name).last_attempt.response_status.code == 7)
    cloud.grant(service.name, f"serviceAccount:{email}")
    eventually(lambda: not list(tasks.list_tasks(parent=queue.name)))
    tasks.delete_queue(name=queue.name)


def test_a_request_streams_and_is_limited_in_size(cloud: Deployer, service: Any) -> None:
    def send(chunks: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(service.uri.removeprefix("http://"), timeout=PATIENCE)
        try:
            connection.request("POST", "/", (b"x" * 2**20 for _ in range(chunks)), encode_chunked=True)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    status, body = send(20)
    assert (status, json.loads(body)["size"]) == (200, 20 * 2**20)
    assert cloud.call(service, body=b"x" * (32 * 2**20 + 1)).status == 413
    assert send(33)[0] == 413


def test_an_answer_streams(cloud: Deployer, service: Any) -> None:
    with urllib.request.urlopen(f"{service.uri}/?stream=") as answer:
        times = []
        for line in iter(answer.readline, b""):
            times.append((line, time.monotonic()))
    assert [line for line, _ in times] == [b"0\n", b"1\n", b"2\n"]
    assert times[2][1] - times[0][1] > 0.3


def test_a_request_that_takes_too_long_is_broken_off_and_the_instance_goes_on(cloud: Deployer, unique: str) -> None:
    # the framework's server takes the timeout as its own, for processes that give no sign of life; they do each second
    service = cloud.deploy(unique, cloud.message(cloud.image(), timeout={"seconds": 3}))
    before = cloud.call(service).document()["pid"]
    assert cloud.call(service, "/?seconds=6").status == 504
    assert cloud.call(service).document()["pid"] == before


@pytest.mark.parametrize("cpu_idle", [True, False])
def test_an_idle_instance_has_no_cpu_unless_it_is_always_given(cloud: Deployer, unique: str, cpu_idle: bool) -> None:
    message = cloud.message(cloud.image())
    message["template"]["containers"][0]["resources"] = {"cpu_idle": cpu_idle}
    service = cloud.deploy(unique, message)
    server = psutil.Process(cloud.call(service).document()["pid"])
    if cpu_idle:
        eventually(lambda: server.status() == psutil.STATUS_STOPPED)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        slow = thread.submit(cloud.call, service, "/?seconds=1")
        eventually(lambda: any(instance["requests"] for instance in cloud.instances(service)))
        assert server.status() != psutil.STATUS_STOPPED
        assert slow.result().document()["pid"] == server.pid
    if not cpu_idle:
        time.sleep(0.2)
        assert server.status() != psutil.STATUS_STOPPED


def test_a_new_revision_takes_over_and_the_old_instances_end_when_they_are_done(cloud: Deployer, service: Any) -> None:
    changed = cloud.message(cloud.image(MAIN.replace("VERSION = 1", "VERSION = 2")))
    changed["name"] = service.name
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        slow = thread.submit(cloud.call, service, "/?seconds=3")
        eventually(lambda: any(instance["requests"] for instance in cloud.instances(service)))
        updated = cloud.services.update_service(service=changed).result()
        assert cloud.call(service).document()["version"] == 2
        assert slow.result().document()["version"] == 1
    assert (updated.uri, updated.generation) == (service.uri, 2)
    assert updated.latest_ready_revision.rpartition("/")[2].split("-")[-2] == "00002"
    eventually(lambda: len({instance["revision"] for instance in cloud.instances(service)}) == 1)


def test_what_needs_no_revision_changes_without_one(cloud: Deployer, service: Any) -> None:
    pids = [instance["pid"] for instance in cloud.instances(service)]
    change = {"name": service.name, "labels": {"app": "noetl"}}
    updated = cloud.services.update_service(service=change, update_mask={"paths": ["labels"]}).result()
    assert (updated.labels, updated.latest_ready_revision) == ({"app": "noetl"}, service.latest_ready_revision)
    assert [instance["pid"] for instance in cloud.instances(service)] == pids
    stale = {"name": service.name, "labels": {}, "etag": service.etag}
    with pytest.raises(exceptions.Conflict):
        cloud.services.update_service(service=stale, update_mask={"paths": ["labels"]})


def test_a_killed_instance_is_replaced_and_its_request_fails(cloud: Deployer, service: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        slow = thread.submit(cloud.call, service, "/?seconds=20")
        eventually(lambda: any(instance["requests"] for instance in cloud.instances(service)))
        (victim,) = cloud.instances(service)
        cloud.standin.admin("POST", f"instances/{victim['pid']}:kill")
        assert slow.result().status == 503
    assert cloud.call(service).status == 200
    assert victim["pid"] not in [instance["pid"] for instance in cloud.instances(service)]


def test_a_minimum_of_instances_is_kept(cloud: Deployer, unique: str) -> None:
    service = cloud.deploy(unique, cloud.message(cloud.image(), scaling={"min_instance_count": 1}))
    (victim,) = cloud.instances(service)
    cloud.standin.admin("POST", f"instances/{victim['pid']}:kill")
    eventually(lambda: [one["ready"] for one in cloud.instances(service) if one["pid"] != victim["pid"]] == [True])


def test_a_revision_that_does_not_start_leaves_the_one_before_it(cloud: Deployer, service: Any) -> None:
    broken = {**cloud.message(cloud.image("raise SystemExit('nothing works')")), "name": service.name}
    with pytest.raises(exceptions.GoogleAPICallError, match="nothing works"):
        cloud.services.update_service(service=broken).result()
    found = cloud.services.get_service(name=service.name)
    assert found.terminal_condition.state.name == "CONDITION_FAILED"
    assert "failed to start and listen" in found.terminal_condition.message
    assert found.latest_ready_revision == service.latest_ready_revision != found.latest_created_revision
    assert cloud.call(service).document()["version"] == 1


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"requirements": "requests==2.0.0\n"}, "pip install failed"),
        ({"requirements": ""}, "No module named 'functions_framework'|functions_framework"),
        ({"main": MAIN.replace("function(", "other(")}, "function"),
    ],
)
def test_a_function_that_cannot_be_built_or_started_fails_with_the_reason(
    cloud: Deployer, unique: str, files: dict[str, str], reason: str
) -> None:
    with pytest.raises((RuntimeError, exceptions.GoogleAPICallError), match=reason):
        cloud.deploy(unique, cloud.message(cloud.build(cloud.upload(**files))))


def test_a_service_without_a_ready_revision_answers_that_it_has_none(cloud: Deployer, unique: str) -> None:
    image = f"{REGION}-docker.pkg.dev/{PROJECT}/{cloud.repository}/function:none-such"
    with pytest.raises(exceptions.GoogleAPICallError, match="not found"):
        cloud.deploy(unique, cloud.message(image))
    found = cloud.services.get_service(name=f"{PARENT}/services/{unique}")
    assert not found.latest_ready_revision
    cloud.grant(found.name, "allUsers")
    assert cloud.call(found).status == 503


def test_the_build_s_account_must_read_the_source_and_write_the_image(cloud: Deployer, account: str) -> None:
    name = cloud.upload()
    with pytest.raises(RuntimeError, match="may not read"):
        cloud.build(name, account)
    policy = cloud.bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {f"serviceAccount:{account}"}})
    cloud.bucket.set_iam_policy(policy)
    with pytest.raises(RuntimeError, match="may not upload"):
        cloud.build(name, account)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"max_instance_request_concurrency": 1001}, "at most 1000"),
        ({"timeout": {"seconds": 3601}}, "at most 3600s"),
        ({"service_account": "nobody@x.iam.gserviceaccount.com"}, "Unknown service account"),
        ({"containers": [{"image": "x", "env": [{"name": "PORT", "value": "1"}]}]}, "reserved env names"),
        ({"containers": [{"image": "x", "resources": {"limits": {"cpu": "500m"}}}]}, "concurrency > 1"),
        ({"containers": [{"image": "x", "resources": {"limits": {"memory": "8Gi"}}}]}, "container memory"),
        ({"volumes": [{"name": "x"}]}, "does not implement the field template.volumes"),
        ({"service_account": ""}, "no default service account"),
    ],
)
def test_a_service_that_is_not_valid_or_not_implemented_is_refused(
    cloud: Deployer, unique: str, wrong: dict[str, Any], reason: str
) -> None:
    refusals = (exceptions.BadRequest, exceptions.NotFound, exceptions.MethodNotImplemented)
    with pytest.raises(refusals, match=reason):
        cloud.deploy(unique, cloud.message("x", **wrong))


def test_a_deleted_service_is_gone_with_its_instances(cloud: Deployer, service: Any) -> None:
    cloud.services.delete_service(name=service.name).result()
    assert not cloud.instances(service)
    with pytest.raises(exceptions.NotFound):
        cloud.services.get_service(name=service.name)
    with pytest.raises(urllib.error.URLError):
        cloud.call(service)


def test_a_service_account_may_not_deploy(cloud: Deployer, service: Any) -> None:
    theirs = cloud.standin.client(ServicesClient, cloud.account)
    with pytest.raises(exceptions.Forbidden, match=r"run\.services\.get"):
        theirs.get_service(name=service.name)
    with pytest.raises(exceptions.Forbidden, match=r"run\.services\.delete"):
        theirs.delete_service(name=service.name)
