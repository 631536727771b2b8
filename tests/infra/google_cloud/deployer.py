"""Small functions, deployed to the stand-in of Cloud Run and called there."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from google.cloud.iam_credentials_v1 import IAMCredentialsClient
from google.cloud.run_v2 import ServicesClient
from google.cloud.storage import Client
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin

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
    """Functions that are made, deployed and called as users do, by Google's clients."""

    standin: Standin
    services: Any
    bucket: Any
    account: str
    requirements: str

    @classmethod
    def of(cls, standin: Standin, account: str) -> Self:
        """With a bucket of its own; the functions run as that account."""
        storage = Client(
            project=PROJECT, credentials=standin.credentials(), client_options={"api_endpoint": standin.url}
        )
        bucket = storage.bucket(f"noetl-sources-{os.getpid()}")
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        storage.create_bucket(bucket, location=REGION)
        needed = requirements(Lock(LOCK.read_text()).closure(["functions-framework"]))
        return cls(standin, standin.client(ServicesClient), bucket, account, needed)

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
