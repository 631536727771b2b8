"""Lambda itself, as far as the engine meets it: functions that scale up to a cap, the Invoke API, and the event source
mappings that take messages from SQS (a real endpoint: moto's or an emulator's) to a function."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from .runtime_api import Environment, InitFailed, Invoked, QuietServer

THROTTLED = {"errorType": "TooManyRequestsException", "errorMessage": "Rate Exceeded."}


class Throttled(Exception):
    """All that the function's reserved concurrency allows are busy."""


@dataclass(slots=True)
class Function:
    """`make` starts one environment; at most `most` are there at once."""

    name: str
    make: Callable[[], Environment]
    most: int = 10
    environments: list[Environment] = field(default_factory=list)
    busy: int = 0
    starts: int = 0
    invocations: int = 0
    throttles: int = 0
    failures: list[Any] = field(default_factory=list)
    _idle: list[Environment] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, event: Any, *, timeout: float | None = None) -> Invoked:
        """Raises Throttled."""
        environment = self._take()
        try:
            if environment is None:
                try:
                    environment = self.make()
                except InitFailed as error:
                    done = Invoked({"errorType": "Runtime.ExitError", "errorMessage": str(error)}, True, 0.0)
                    self.failures.append(done.payload)
                    return done
                self.environments.append(environment)
            done = environment.invoke(event, timeout=timeout)
            if done.failed:
                self.failures.append(done.payload)
            return done
        finally:
            with self._lock:
                self.busy -= 1
                if environment is not None and environment.alive:
                    self._idle.append(environment)

    def log(self) -> str:
        return "".join(line for environment in self.environments for line in environment.log)

    def stop(self) -> None:
        for environment in self.environments:
            environment.stop()

    def _take(self) -> Environment | None:
        """An idle environment, or None for a new one."""
        with self._lock:
            if self.busy >= self.most:
                self.throttles += 1
                raise Throttled(self.name)
            self.busy += 1
            self.invocations += 1
            if self._idle:
                return self._idle.pop()
            self.starts += 1
            return None


class InvokeApi:
    """POST /2015-03-31/functions/NAME/invocations, for AWS_ENDPOINT_URL_LAMBDA."""

    def __init__(self, functions: dict[str, Function]) -> None:
        self._server = _Server(("127.0.0.1", 0), _Invocations)
        self._server.functions = functions
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(QuietServer):
    functions: dict[str, Function]


class _Invocations(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        found = re.fullmatch(r"/2015-03-31/functions/([^/:]+)(?::live)?/invocations", unquote(urlsplit(self.path).path))
        function = self.server.functions.get(found[1]) if found else None
        if function is None or not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
            self._answer(404 if function is None else 403, {"Message": "no"}, {})
            return
        try:
            done = function.invoke(event)
        except Throttled:
            self._answer(429, {"Message": "Rate Exceeded."}, {"x-amzn-ErrorType": "TooManyRequestsException"})
            return
        self._answer(200, done.payload, {"X-Amz-Function-Error": "Unhandled"} if done.failed else {})

    def _answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return None


class EventSourceMapping:
    """Polls a queue and invokes a function with batches; deletes what was done, leaves what was reported failed."""

    def __init__(self, sqs: Any, queue_url: str, arn: str, function: Function, *, batch: int = 1, pollers: int = 3):
        self._sqs = sqs
        self._url = queue_url
        self._arn = arn
        self._function = function
        self._batch = batch
        self._stopped = threading.Event()
        self._asking = threading.Lock()
        self.answers: list[Any] = []
        # deliver every batch twice, as SQS may
        self.twice = False
        self._threads = [threading.Thread(target=self._poll, daemon=True) for _ in range(pollers)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _poll(self) -> None:
        while not self._stopped.is_set():
            if messages := self._receive():
                self._deliver(messages)

    def _receive(self) -> list[dict[str, Any]]:
        """One poller asks at a time: all of them at an idle queue would take the processor from the functions."""
        with self._asking:
            answer = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=self._batch, WaitTimeSeconds=0, AttributeNames=["All"]
            )
            messages: list[dict[str, Any]] = answer.get("Messages", [])
            if not messages:
                self._stopped.wait(0.05)
            return messages

    def _deliver(self, messages: list[dict[str, Any]]) -> None:
        event = {"Records": [self._record(message) for message in messages]}
        try:
            done = self._function.invoke(event)
            if self.twice:
                done = self._function.invoke(event)
        except Throttled:
            # they come back when they become visible again, which a test need not wait for
            for message in messages:
                self._sqs.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=1
                )
            self._stopped.wait(0.1)
            return
        self.answers.append(done.payload)
        if done.failed:
            return
        failed = {failure["itemIdentifier"] for failure in (done.payload or {}).get("batchItemFailures", ())}
        for message in messages:
            if message["MessageId"] not in failed:
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        return sqs_record(message["Body"], self._arn, message["MessageId"], message["ReceiptHandle"])


class Schedule:
    """EventBridge Scheduler with one rate: invokes, and does not wait for the end of one before the next is due."""

    def __init__(self, function: Function, event: Any, every: float) -> None:
        self._stopped = threading.Event()
        self._function = function
        self._event = event
        self._every = every
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(60)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            with contextlib.suppress(Throttled):
                self._function.invoke(self._event)
            due += self._every


def sqs_record(
    body: str, arn: str, id: str = "059f36b4-87a3-44ab-83d2-661975830a7d", receipt: str = "r"
) -> dict[str, Any]:
    """As an event source mapping shows it to the function."""
    return {
        "messageId": id,
        "receiptHandle": receipt,
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }


def http_event(
    method: str, path: str, *, body: str | None = None, headers: dict[str, str] | None = None, query: str = ""
) -> dict[str, Any]:
    """A request as an HTTP API gives it to a function, payload format 2.0 (from AWS's documentation)."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "accept": "*/*",
            "content-length": str(len(body or "")),
            "host": "r3pmxmplak.execute-api.eu-west-1.amazonaws.com",
            "user-agent": "curl/8.0",
            "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e",
            "x-forwarded-for": "205.255.255.176",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            **(headers or {}),
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "r3pmxmplak",
            "domainName": "r3pmxmplak.execute-api.eu-west-1.amazonaws.com",
            "domainPrefix": "r3pmxmplak",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "205.255.255.176",
                "userAgent": "curl/8.0",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "10/Mar/2020:05:16:23 +0000",
            "timeEpoch": 1583817383220,
        },
        **({"body": body} if body is not None else {}),
        "isBase64Encoded": False,
    }
