from __future__ import annotations

import concurrent.futures
import io
import json
import os
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from google.api_core import exceptions
from google.cloud.iam_credentials_v1 import IAMCredentialsClient
from google.cloud.run_v2 import RevisionsClient, ServicesClient
from google.cloud.storage import Client
from tests.infra.google_cloud.conftest import new_account
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin

from noetl_serverless.packaging.lock import Lock, requirements

PARENT = f"projects/{PROJECT}/locations/{REGION}"
LOCK = Path(__file__).parents[3] / "requirements-dev.txt"
PATIENCE = 30.0

MAIN = """
import asyncio, os, sys, urllib.request
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

def metadata(path):
    url = f"http://{os.environ['GCE_METADATA_HOST']}/computeMetadata/v1/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})) as answer:
        return answer.read().decode()

async def function(request: Request):
    given = request.query_params
    await asyncio.sleep(float(given.get("seconds", 0)))
    if "metadata" in given:
        return JSONResponse(metadata(given["metadata"]))
    if "stream" in given:
        async def lines():
            for index in range(3):
                yield f"{index}\\n"
                await asyncio.sleep(0.2)
        return StreamingResponse(lines())
    if "variables" in given:
        return JSONResponse(dict(os.environ))
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return JSONResponse(
        {
            "pid": os.getpid(), "version": VERSION, "size": size, "path": request.url.path,
            "headers": dict(request.headers), "revision": os.environ["K_REVISION"],
        }
    )

VERSION = 1
"""


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes

    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Cloud:
    """Deploys functions, and calls them."""

    standin: Standin
    services: Any
    bucket: Any
    account: str
    requirements: str

    def source(self, main: str = MAIN, requirements: str | None = None) -> str:
        """Where it has been uploaded to."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("main.py", main)
            archive.writestr("requirements.txt", self.requirements if requirements is None else requirements)
        name = f"source-{time.monotonic_ns()}.zip"
        self.bucket.blob(name).upload_from_string(packed.getvalue())
        return f"gs://{self.bucket.name}/{name}"

    def message(self, source: str, **template: Any) -> dict[str, Any]:
        container = {
            "image": "europe-docker.pkg.dev/x/y/z",
            "env": [{"name": "FUNCTION_USE_ASGI", "value": "true"}, {"name": "COLOUR", "value": "red"}],
        }
        return {
            "template": {"containers": [container], "service_account": self.account, **template},
            "build_config": {"source_location": source, "function_target": "function"},
        }

    def deploy(self, id: str, message: dict[str, Any], *, public: bool = True) -> Any:
        made = self.services.create_service(parent=PARENT, service_id=id, service=message).result()
        if public:
            self.grant(made.name, "allUsers")
        return made

    def grant(self, service: str, member: str) -> None:
        policy = self.services.get_iam_policy(request={"resource": service})
        policy.bindings.add(role="roles/run.invoker", members=[member])
        self.services.set_iam_policy(request={"resource": service, "policy": policy})

    def call(self, service: Any, path: str = "/", body: bytes | None = None, **headers: str) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{service.uri}{path}", body, sent)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return Reply(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read())

    def call_together(self, service: Any, count: int, path: str = "/") -> list[Reply]:
        with concurrent.futures.ThreadPoolExecutor(count) as threads:
            return list(threads.map(lambda _: self.call(service, path), range(count)))

    def id_token(self, email: str, audience: str) -> str:
        client = self.standin.client(IAMCredentialsClient)
        name = f"projects/-/serviceAccounts/{email}"
        return str(client.generate_id_token(name=name, audience=audience, include_email=True).token)

    def instances(self, service: Any) -> list[dict[str, Any]]:
        found = self.standin.admin("GET", "instances")["instances"]
        return [instance for instance in found if instance["service"] == service.name]


@pytest.fixture(scope="module")
def cloud(standin: Standin) -> Iterator[Cloud]:
    storage = Client(project=PROJECT, credentials=standin.credentials(), client_options={"api_endpoint": standin.url})
    bucket = storage.bucket(f"noetl-sources-{os.getpid()}")
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    storage.create_bucket(bucket, location=REGION)
    needed = requirements(Lock(LOCK.read_text()).closure(["functions-framework"]))
    services = standin.client(ServicesClient)
    cloud = Cloud(standin, services, bucket, new_account(standin, "run-tests"), needed)
    yield cloud
    for service in services.list_services(parent=PARENT):
        services.delete_service(name=service.name).result()
    assert standin.admin("GET", "instances") == {"instances": []}


@pytest.fixture
def service(cloud: Cloud, unique: str) -> Any:
    """Open to all, with one request at a time for each of two instances."""
    scaling = {"max_instance_count": 2}
    message = cloud.message(cloud.source(), scaling=scaling, max_instance_request_concurrency=1)
    return cloud.deploy(unique, message)


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_service_is_ready_once_an_instance_has_come_up(cloud: Cloud, service: Any) -> None:
    found = cloud.services.get_service(name=service.name)
    assert found.terminal_condition.state.name == "CONDITION_SUCCEEDED"
    assert found.latest_ready_revision == found.latest_created_revision
    assert found.latest_ready_revision.startswith(f"{service.name}/revisions/{service.name.split('/')[-1]}-00001-")
    assert (found.generation, found.observed_generation, list(found.urls)) == (1, 1, [found.uri])
    assert found.template.timeout.seconds == 300
    revisions = cloud.standin.client(RevisionsClient).list_revisions(parent=service.name)
    assert [revision.name for revision in revisions] == [found.latest_ready_revision]
    assert service.name in [one.name for one in cloud.services.list_services(parent=PARENT)]


def test_requests_reach_the_function_as_they_are(cloud: Cloud, service: Any) -> None:
    seen = cloud.call(service, "/some/path?x=1", b"x" * 10**6, X_Own="1", Authorization="Bearer mine").document()
    assert (seen["path"], seen["size"]) == ("/some/path", 10**6)
    assert (seen["headers"]["x-own"], seen["headers"]["authorization"]) == ("1", "Bearer mine")
    assert seen["headers"]["host"] == service.uri.removeprefix("http://")
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"


def test_an_instance_has_the_environment_of_its_template_and_nothing_of_the_machine_s(
    cloud: Cloud, service: Any
) -> None:
    variables = cloud.call(service, "/?variables=").document()
    assert (variables["COLOUR"], variables["FUNCTION_TARGET"]) == ("red", "function")
    assert variables["K_SERVICE"] == service.name.rpartition("/")[2]
    assert variables["K_REVISION"] == service.latest_ready_revision.rpartition("/")[2]
    assert variables["HOME"] != os.environ["HOME"]
    assert not variables.keys() & {"USER", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "PIP_INDEX_URL"}


def test_the_metadata_server_says_who_the_function_is(cloud: Cloud, service: Any) -> None:
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


def test_only_those_who_may_invoke_get_through(cloud: Cloud, unique: str) -> None:
    service = cloud.deploy(unique, cloud.message(cloud.source()), public=False)
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


def test_the_function_s_own_authorization_passes_beside_google_s(cloud: Cloud, unique: str) -> None:
    message = {**cloud.message(cloud.source()), "custom_audiences": ["https://custom"]}
    service = cloud.deploy(unique, message, public=False)
    cloud.grant(service.name, f"serviceAccount:{cloud.account}")
    token = cloud.id_token(cloud.account, "https://custom")
    seen = cloud.call(service, Authorization="Bearer own", X_Serverless_Authorization=f"Bearer {token}").document()
    assert seen["headers"]["authorization"] == "Bearer own"
    head = token.rpartition(".")[0]
    assert seen["headers"]["x-serverless-authorization"] == f"Bearer {head}.SIGNATURE_REMOVED_BY_GOOGLE"


def test_instances_are_started_for_requests_that_come_together_up_to_the_limit(cloud: Cloud, service: Any) -> None:
    replies = cloud.call_together(service, 6, "/?seconds=0.3")
    assert [reply.status for reply in replies] == [200] * 6
    assert len({reply.document()["pid"] for reply in replies}) == 2
    assert len(cloud.instances(service)) == 2


def test_an_instance_takes_as_many_requests_as_its_concurrency(cloud: Cloud, unique: str) -> None:
    scaling = {"max_instance_count": 1}
    message = cloud.message(cloud.source(), scaling=scaling, max_instance_request_concurrency=4)
    service = cloud.deploy(unique, message)
    began = time.monotonic()
    replies = cloud.call_together(service, 4, "/?seconds=0.5")
    assert len({reply.document()["pid"] for reply in replies}) == 1
    assert time.monotonic() - began < 1.5


def test_an_answer_streams(cloud: Cloud, service: Any) -> None:
    with urllib.request.urlopen(f"{service.uri}/?stream=") as answer:
        times = []
        for line in iter(answer.readline, b""):
            times.append((line, time.monotonic()))
    assert [line for line, _ in times] == [b"0\n", b"1\n", b"2\n"]
    assert times[2][1] - times[0][1] > 0.3


def test_a_request_that_takes_too_long_is_broken_off_and_the_instance_goes_on(cloud: Cloud, unique: str) -> None:
    service = cloud.deploy(unique, cloud.message(cloud.source(), timeout={"seconds": 1}))
    before = cloud.call(service).document()["pid"]
    assert cloud.call(service, "/?seconds=3").status == 504
    assert cloud.call(service).document()["pid"] == before


def test_a_new_revision_takes_over_and_the_old_instances_end_when_they_are_done(cloud: Cloud, service: Any) -> None:
    changed = cloud.message(cloud.source(MAIN.replace("VERSION = 1", "VERSION = 2")))
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


def test_what_needs_no_revision_changes_without_one(cloud: Cloud, service: Any) -> None:
    pids = [instance["pid"] for instance in cloud.instances(service)]
    change = {"name": service.name, "labels": {"app": "noetl"}}
    updated = cloud.services.update_service(service=change, update_mask={"paths": ["labels"]}).result()
    assert (updated.labels, updated.latest_ready_revision) == ({"app": "noetl"}, service.latest_ready_revision)
    assert [instance["pid"] for instance in cloud.instances(service)] == pids
    stale = {"name": service.name, "labels": {}, "etag": service.etag}
    with pytest.raises(exceptions.Conflict):
        cloud.services.update_service(service=stale, update_mask={"paths": ["labels"]})


def test_a_killed_instance_is_replaced_and_its_request_fails(cloud: Cloud, service: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        slow = thread.submit(cloud.call, service, "/?seconds=20")
        eventually(lambda: any(instance["requests"] for instance in cloud.instances(service)))
        (victim,) = cloud.instances(service)
        cloud.standin.admin("POST", f"instances/{victim['pid']}:kill")
        assert slow.result().status == 503
    assert cloud.call(service).status == 200
    assert victim["pid"] not in [instance["pid"] for instance in cloud.instances(service)]


def test_a_minimum_of_instances_is_kept(cloud: Cloud, unique: str) -> None:
    service = cloud.deploy(unique, cloud.message(cloud.source(), scaling={"min_instance_count": 1}))
    (victim,) = cloud.instances(service)
    cloud.standin.admin("POST", f"instances/{victim['pid']}:kill")
    eventually(lambda: [one["ready"] for one in cloud.instances(service) if one["pid"] != victim["pid"]] == [True])


def test_a_revision_that_does_not_start_leaves_the_one_before_it(cloud: Cloud, service: Any) -> None:
    broken = {**cloud.message(cloud.source("raise SystemExit('nothing works')")), "name": service.name}
    with pytest.raises(exceptions.GoogleAPICallError, match="nothing works"):
        cloud.services.update_service(service=broken).result()
    found = cloud.services.get_service(name=service.name)
    assert found.terminal_condition.state.name == "CONDITION_FAILED"
    assert "failed to start and listen" in found.terminal_condition.message
    assert found.latest_ready_revision == service.latest_ready_revision != found.latest_created_revision
    assert cloud.call(service).document()["version"] == 1


@pytest.mark.parametrize(
    ("main", "needed", "reason"),
    [
        (MAIN, "requests==2.0.0\n", "pip install failed"),
        (MAIN.replace("function(", "other("), None, "function"),
    ],
)
def test_a_service_that_cannot_be_built_or_started_fails_with_the_reason(
    cloud: Cloud, unique: str, main: str, needed: str | None, reason: str
) -> None:
    with pytest.raises(exceptions.GoogleAPICallError, match=reason):
        cloud.deploy(unique, cloud.message(cloud.source(main, needed)))
    found = cloud.services.get_service(name=f"{PARENT}/services/{unique}")
    assert cloud.call(found).status in (403, 503)
    assert not found.latest_ready_revision


def test_the_build_s_account_must_be_able_to_read_the_source(cloud: Cloud, unique: str) -> None:
    message = cloud.message(cloud.source())
    message["build_config"]["service_account"] = f"projects/{PROJECT}/serviceAccounts/{cloud.account}"
    with pytest.raises(exceptions.GoogleAPICallError, match="may not read"):
        cloud.deploy(unique, message)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"max_instance_request_concurrency": 1001}, "at most 1000"),
        ({"timeout": {"seconds": 3601}}, "at most 3600s"),
        ({"service_account": "nobody@x.iam.gserviceaccount.com"}, "does not exist"),
        ({"containers": [{"image": "x", "env": [{"name": "PORT", "value": "1"}]}]}, "reserved env names"),
        ({"containers": [{"image": "x", "resources": {"limits": {"cpu": "500m"}}}]}, "concurrency > 1"),
        ({"containers": [{"image": "x", "resources": {"limits": {"memory": "8Gi"}}}]}, "container memory"),
        ({"volumes": [{"name": "x"}]}, "does not implement the field template.volumes"),
        ({"service_account": ""}, "no default service account"),
    ],
)
def test_a_service_that_is_not_valid_or_not_implemented_is_refused(
    cloud: Cloud, unique: str, wrong: dict[str, Any], reason: str
) -> None:
    with pytest.raises((exceptions.BadRequest, exceptions.MethodNotImplemented), match=reason):
        cloud.deploy(unique, cloud.message("gs://x/y", **wrong))


def test_a_deleted_service_is_gone_with_its_instances(cloud: Cloud, service: Any) -> None:
    cloud.services.delete_service(name=service.name).result()
    assert not cloud.instances(service)
    with pytest.raises(exceptions.NotFound):
        cloud.services.get_service(name=service.name)
    with pytest.raises(urllib.error.URLError):
        cloud.call(service)


def test_a_service_account_may_not_deploy(cloud: Cloud, service: Any) -> None:
    theirs = cloud.standin.client(ServicesClient, cloud.account)
    with pytest.raises(exceptions.Forbidden, match=r"run\.services\.get"):
        theirs.get_service(name=service.name)
    with pytest.raises(exceptions.Forbidden, match=r"run\.services\.delete"):
        theirs.delete_service(name=service.name)
