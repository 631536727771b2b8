"""Small functions, deployed to the stand-in of Cloud Run and called there."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import tarfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from google.cloud.iam_credentials_v1 import IAMCredentialsClient
from google.cloud.run_v2 import BuildsClient, ServicesClient
from google.cloud.storage import Client
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin, call

from noetl_serverless.packaging.lock import Lock, requirements

PARENT = f"projects/{PROJECT}/locations/{REGION}"
LOCK = Path(__file__).parents[3] / "requirements-dev.txt"
PATIENCE = 60.0

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
print(f"this is version {VERSION}", flush=True)
"""


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes

    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Deployer:
    """Functions that are made, deployed and called as users do, by Google's clients. `account`: as which they run, and
    are built."""

    standin: Standin
    services: Any
    bucket: Any
    repository: str
    account: str
    requirements: str

    @classmethod
    def of(cls, standin: Standin, account: str) -> Self:
        """With a bucket and a repository of its own."""
        storage = Client(
            project=PROJECT, credentials=standin.credentials(), client_options={"api_endpoint": standin.url}
        )
        bucket = storage.bucket(f"noetl-sources-{os.getpid()}")
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        storage.create_bucket(bucket, location=REGION)
        policy = bucket.get_iam_policy(requested_policy_version=3)
        policy.bindings.append({"role": "roles/storage.objectViewer", "members": {f"serviceAccount:{account}"}})
        bucket.set_iam_policy(policy)
        repository = f"images-{os.getpid()}"
        url = f"{standin.url}/v1/{PARENT}/repositories"
        call(f"{url}?repositoryId={repository}", "POST", {"format": "DOCKER"}, standin.token)
        bindings = [{"role": "roles/artifactregistry.writer", "members": [f"serviceAccount:{account}"]}]
        call(f"{url}/{repository}:setIamPolicy", "POST", {"policy": {"bindings": bindings}}, standin.token)
        needed = requirements(Lock(LOCK.read_text()).closure(["functions-framework"]))
        return cls(standin, standin.client(ServicesClient), bucket, repository, account, needed)

    def upload(self, main: str = MAIN, requirements: str | None = None) -> str:
        """The object's name of a package."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            needed = self.requirements if requirements is None else requirements
            for name, text in (("main.py", main), ("requirements.txt", needed)):
                entry = tarfile.TarInfo(name)
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        name = f"source-{time.monotonic_ns()}.tar.gz"
        self.bucket.blob(name).upload_from_string(packed.getvalue())
        return name

    def build(self, name: str, account: str | None = None) -> str:
        """The image made of a package. RuntimeError if that fails."""
        image = f"{REGION}-docker.pkg.dev/{PROJECT}/{self.repository}/function:{time.monotonic_ns()}"
        request = {
            "parent": PARENT,
            "storage_source": {"bucket": self.bucket.name, "object_": name},
            "image_uri": image,
            "service_account": f"projects/{PROJECT}/serviceAccounts/{account or self.account}",
            "buildpack_build": {"function_target": "function"},
        }
        operation = self.standin.client(BuildsClient).submit_build(request=request).build_operation
        url, token = f"{self.standin.url}/v1/{operation.name}", self.standin.token
        until = time.monotonic() + PATIENCE
        while not (found := call(url, "GET", token=token))["done"]:
            assert time.monotonic() < until
            time.sleep(0.02)
        if "error" in found:
            raise RuntimeError(found["error"]["message"])
        return image

    def image(self, main: str = MAIN) -> str:
        return self.build(self.upload(main))

    def message(self, image: str, **template: Any) -> dict[str, Any]:
        variables = {"FUNCTION_USE_ASGI": "true", "COLOUR": "red"}
        container = {"image": image, "env": [{"name": name, "value": value} for name, value in variables.items()]}
        return {"template": {"containers": [container], "service_account": self.account, **template}}

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
