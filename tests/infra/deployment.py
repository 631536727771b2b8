"""The functions as they run on Lambda, on this machine: the official runtime client, moto for SQS, secrets and S3,
real PostgreSQL and NATS. What Terraform would make is made here by hand, from the same table."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
import time
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
from moto.server import ThreadedMotoServer
from tests.eventually import committed, while_progressing

from noetl_serverless.hosts.table import FunctionSpec, directly, functions_folder, load_functions, load_pools
from noetl_serverless.store.worker_role import worker_role

from .lambda_service import EventSourceMapping, Function, InvokeApi, Schedule, Throttled, http_event
from .runtime_api import Environment, Invoked

REGION = "eu-west-1"
PREFIX = "noetl"
BUCKET = "noetl-results"
# seconds without progress after which nothing is expected to happen any more
PATIENCE = 60.0
# paths that a function never has on Lambda
ABSENT = Path(__file__).with_name("absent")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


class Deployment:
    """`timeouts`: seconds by function, where they are not the table's; `settings`: NOETL_* beside the usual.
    `pools`: more pools, each with the kinds of tools that run there; `direct`: those whose workers are direct.

    `python`: what runs the functions, and `path`: where it finds the runtime client, if it is not this Python.
    """

    def __init__(
        self,
        database_url: str,
        nats_url: str,
        *,
        timeouts: Mapping[str, float] | None = None,
        most: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
        freezes: bool = True,
        tick: float = 1.0,
        folders: Mapping[str, Path] | None = None,
        python: str = sys.executable,
        path: Path | None = None,
        pools: Mapping[str, Sequence[str]] | None = None,
        direct: Collection[str] = (),
    ) -> None:
        self._timeouts = dict(timeouts or {})
        self._most = dict(most or {})
        self._given = dict(settings or {})
        self._freezes = freezes
        self._tick = tick
        self._folders = dict(folders or {})
        self._python = python
        self._path = os.pathsep.join(str(folder) for folder in (ABSENT, path) if folder)
        self.specs = {spec.name: spec for spec in load_functions(functions_folder(), "aws")}
        self._pools = load_pools(functions_folder())
        for pool, kinds in (pools or {}).items():
            self._pools |= dict.fromkeys(kinds, pool)
            spec = self.specs["worker"].model_copy(update={"name": f"worker_{pool}", "pool": pool})
            self.specs[spec.name] = directly(spec, functions_folder()) if pool in direct else spec
        self._worker_role = worker_role(database_url) if direct else None
        for chatty in ("werkzeug", "urllib3.connectionpool", "botocore"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        # what one server of this process has made, the next one has too
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")).close()
        self.sqs, self.s3, self.secrets = (self.client(name) for name in ("sqs", "s3", "secretsmanager"))
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.queues = {
            spec.pool or spec.name: self.sqs.create_queue(QueueName=f"{PREFIX}-{spec.pool or spec.name}")["QueueUrl"]
            for spec in self.specs.values()
            if any(trigger.kind == "queue" for trigger in spec.triggers)
        }
        self._administrator_url = database_url
        self._make_secrets(database_url, nats_url)
        self.functions: dict[str, Function] = {}
        self.invoke_api = InvokeApi(self.functions)
        for spec in self.specs.values():
            name = self.lambda_name(spec.name)
            instances = self._most.get(spec.name, min(spec.max_instances or 4, 4))
            self.functions[name] = Function(name, partial(self.environment, spec), instances)
        self.mappings: dict[str, EventSourceMapping] = {}
        self._schedules: list[Schedule] = []

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )

    def __getitem__(self, name: str) -> Function:
        return self.functions[self.lambda_name(name)]

    @staticmethod
    def lambda_name(name: str) -> str:
        return f"{PREFIX}-{name.replace('_', '-')}"

    def migrate(self) -> Invoked:
        return self["control_plane"].invoke({"noetl": "migrate"})

    def start(self) -> None:
        """Migrate, then let the queues and the schedule reach their functions."""
        done = self.migrate()
        assert not done.failed, done.payload
        for spec in self.specs.values():
            if (key := spec.pool or spec.name) in self.queues:
                self.map(key, spec.name)
        self._schedules.append(Schedule(self["reconciler"], {"noetl": "tick"}, self._tick))

    def map(self, queue: str, function: str) -> None:
        arn = f"arn:aws:sqs:{REGION}:123456789012:{PREFIX}-{queue}"
        batch = 10 if function == "reconciler" else 1
        self.mappings[queue] = EventSourceMapping(self.sqs, self.queues[queue], arn, self[function], batch=batch)

    def stop(self) -> None:
        for schedule in self._schedules:
            schedule.stop()
        for mapping in self.mappings.values():
            mapping.stop()
        for function in self.functions.values():
            function.stop()
        self.invoke_api.stop()
        self._moto.stop()

    def log(self) -> str:
        return "".join(function.log() for function in self.functions.values())

    # -- as a user

    @property
    def operator_token(self) -> str:
        return self.secret("service_token/operator")

    @property
    def secret_names(self) -> Collection[str]:
        return self._arns.keys()

    def arn(self, secret: str) -> str:
        return self._arns[secret]

    def secret(self, name: str) -> str:
        found = self.secrets.get_secret_value(SecretId=self._arns[name], VersionStage="AWSCURRENT")
        return str(found["SecretString"])

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        function: str = "control_plane",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Over the HTTP API; to the control plane with the operator's token unless another is given."""
        if function == "control_plane":
            token = token or self.operator_token
        sent = {"content-type": "application/json", **(headers or {})}
        if token:
            sent["authorization"] = f"Bearer {token}"
        text = None if body is None else json.dumps(body)
        done = self._ask(self[function], http_event(method, path, body=text, headers=sent, query=query))
        assert not done.failed, done.payload
        answer = done.payload
        content = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"]
        return Answer(answer["statusCode"], json.loads(content or "null"), answer.get("headers") or {})

    @staticmethod
    def _ask(function: Function, event: Any) -> Invoked:
        """A user waits when all are busy, as long as one after the other is done."""
        lasts = while_progressing(lambda: function.invocations, PATIENCE)
        while True:
            try:
                return function.invoke(event)
            except Throttled:
                if not function.most or not lasts():
                    raise
                time.sleep(0.05)

    def run(
        self, text: str, workload: Mapping[str, Any] | None = None, *, patience: float = PATIENCE
    ) -> dict[str, Any]:
        """Register the playbook, run it to its end, and give the execution."""
        return self.wait(self.begin(text, workload), patience=patience)

    def begin(self, text: str, workload: Mapping[str, Any] | None = None) -> str:
        """The id of a new execution."""
        return self.execute(self.register(text), workload)

    def register(self, text: str) -> str:
        """The playbook's path."""
        registered = self.request("POST", "/api/catalog/register", {"content": text, "resource_type": "Playbook"})
        assert registered.status < 300, registered
        return str(registered.body["path"])

    def execute(self, path: str, workload: Mapping[str, Any] | None = None) -> str:
        """The id of a new execution."""
        started = self.request("POST", "/api/execute", {"path": path, "payload": dict(workload or {})})
        assert started.status < 300, started
        return str(started.body["execution_id"])

    def wait(self, execution_id: str, *, patience: float = PATIENCE, pause: float = 0.05) -> dict[str, Any]:
        """The execution, once it has ended; AssertionError if nothing has been committed for `patience` seconds. Looks
        every `pause` seconds."""
        lasts = while_progressing(lambda: committed(self._administrator_url), patience)
        while lasts():
            execution: dict[str, Any] = self.request("GET", f"/api/executions/{execution_id}").body
            if execution["status"] != "RUNNING":
                return execution
            time.sleep(pause)
        raise AssertionError(f"execution {execution_id} does not end\n{self.log()[-8000:]}")

    def events(self, execution_id: str) -> list[dict[str, Any]]:
        answer = self.request("GET", f"/api/executions/{execution_id}/events", query="limit=1000")
        found: list[dict[str, Any]] = answer.body["events"] if isinstance(answer.body, dict) else answer.body
        return found

    # -- what Terraform makes

    def environment(self, spec: FunctionSpec) -> Environment:
        package = spec.name if spec.name in self._folders else spec.source
        return Environment(
            "main.function",
            self._folders.get(package, functions_folder() / spec.source),
            self.variables(spec),
            name=self.lambda_name(spec.name),
            timeout=self._timeouts.get(spec.name, float(spec.timeout_s)),
            memory_mb=spec.memory_mb,
            freezes=self._freezes,
            python=(self._python,),
        )

    def variables(self, spec: FunctionSpec) -> dict[str, str]:
        known = {
            "control_plane_url": f"lambda://{self.lambda_name('control_plane')}:live",
            "function_urls": json.dumps(self.queues),
            "result_url": f"s3://{BUCKET}/results",
            "pools": json.dumps(self._pools),
            "scratch": "/tmp",
            "database_url": self._database_url,
            **({"worker_role": self._worker_role} if self._worker_role else {}),
            **({"orchestrator": "direct"} if spec.pool else {}),
            **self._given,
        }
        named = {name: known[name] for name in (*spec.settings, "database_url") if name in known}
        if spec.name == "gateway" or "database_url" not in spec.secrets:
            named.pop("database_url", None)
        variables = {
            "NOETL_HOST": "aws",
            "NOETL_FUNCTION": spec.name,
            "NOETL_SECRETS": json.dumps({name: self._arns[self._secret_of(spec, name)] for name in spec.secrets}),
            **{f"NOETL_{name.upper()}": value for name, value in named.items()},
        }
        if spec.pool:
            variables["NOETL_POOL"] = spec.pool
        if spec.name == "control_plane":
            variables["NOETL_PROVISION"] = json.dumps(
                {name: arn for name, arn in self._arns.items() if name not in ("database_url", "nats_url")}
            )
        return {
            **variables,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": self._path,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SESSION_TOKEN": "session",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_LAMBDA": self.invoke_api.url,
        }

    def _secret_of(self, spec: FunctionSpec, name: str) -> str:
        if name == "database_url" and spec.pool is not None:
            return f"database_role/{self._worker_role}"
        return f"service_token/{spec.role}" if name == "service_token" else name

    def _make_secrets(self, database_url: str, nats_url: str) -> None:
        parts = urlsplit(database_url)
        login = json.dumps({"username": parts.username, "password": parts.password})
        self._database_url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        roles = sorted({spec.role for spec in self.specs.values()} | {"operator"})
        values = {
            "database_url": login,
            "nats_url": nats_url,
            "token_key": None,
            "encryption_keys": None,
            **{f"service_token/{role}": None for role in roles},
            **({f"database_role/{self._worker_role}": None} if self._worker_role else {}),
        }
        self._arns: dict[str, str] = {}
        for name, value in values.items():
            given = {} if value is None else {"SecretString": value}
            self._arns[name] = self.secrets.create_secret(Name=f"{PREFIX}/{name}", **given)["ARN"]
