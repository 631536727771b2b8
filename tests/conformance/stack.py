"""All playbooks at once on one stack: PostgreSQL, NATS, the functions, the mock API, and a database for their data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml
from tests.audit import events_of
from tests.conformance.broken_tls import broken_tls
from tests.conformance.case import Case, Expected, Restarted, called
from tests.conformance.scripts import CONTENTS, registered
from tests.e2e.faults import BrokenStack, broken_stack, eventually
from tests.log_rules import Finding
from tests.mock_api.secret_stores import AWS_KEYS
from tests.mock_api.server import SECRET, MockApi, mock_api

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold, logical_order
from noetl_serverless.engine.variables import values_of
from noetl_serverless.hosts.local.postgres import create_database
from noetl_serverless.playbook.scope import build_scope
from noetl_serverless.playbook.template import Template

DATABASE = "conformance"
# the credentials that playbooks name, beside those of their own database
CREDENTIALS = (
    {"name": "api_bearer", "type": "bearer", "data": {"token": "b1" * 8}},
    {"name": "api_basic", "type": "basic", "data": {"username": "user", "password": "p1" * 8}},
    {"name": "api_key", "type": "api_key", "data": {"key": "k1" * 8}},
    {"name": "api_client", "type": "oauth2", "data": {"client_id": "keychain-client", "client_secret": SECRET}},
    {"name": "aws", "type": "aws", "data": AWS_KEYS},
)
# seconds without progress
PATIENCE = 60.0
# events of a wait, which a worker that is about to close also takes for a short one
SUSPENSIONS = frozenset({e.CALL_DEFERRED, e.TIMER_SET, e.TIMER_FIRED})
# those of a loop's step that do not depend on how its items are spread over commands
OF_LOOPS = frozenset({e.LOOP_OPENED, e.LOOP_DONE, e.STEP_SKIPPED, e.STEP_TIMED_OUT, e.FAILED})


@dataclass(frozen=True)
class Run:
    """An execution that has ended: its entry and its log; or why there is none."""

    entry: dict[str, Any] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    refusal: str = ""

    @property
    def execution_id(self) -> str:
        return str(self.entry["execution_id"])

    def events(self, *, with_suspensions: bool) -> list[Event]:
        """Those that the language determines, in the order of the decisions."""
        loops = self._loops()
        found = []
        for event in logical_order(self.log):
            if event.type == e.STEP_EXIT or e.IGNORED in event.payload:
                # the first says where a step's end led if no other event does: in a fan-out, whichever ended first
                continue
            if event.step in loops and event.type not in OF_LOOPS:
                continue
            resumed = event.type == e.ISSUED and "timer" in event.payload
            if with_suspensions or not (event.type in SUSPENSIONS or resumed):
                found.append(event)
        return found

    def _loops(self) -> set[str]:
        """The steps that were loops."""
        return {event.step for event in self.log if event.type == e.LOOP_DONE and event.step is not None}

    def longest_wait(self) -> float | None:
        """In seconds, of those that are timers; as it was decided, not as it was measured."""
        causes = {event.seq: event for event in self.log}
        timers = [event for event in self.log if event.type == e.TIMER_SET]
        return max(((timer.payload["due"] - causes[timer.cause or 0].at) / 1000 for timer in timers), default=None)

    def value(self, expression: str) -> Any:
        """What the expression gives at the end of the execution, to a template that can read nothing by reference."""
        started = next(event for event in self.log if event.type == e.STARTED)
        state = fold(self.execution_id, self.log, started.payload.get("workload"))
        loops = self._loops()
        scope = build_scope(
            workload=state.workload,
            ctx=state.ctx,
            steps=state.outcomes,
            loops=loops,
            execution_id=state.execution_id,
            variables=values_of(state.variables),
        )
        return Template(f"{{{{ {expression} }}}}").render(scope)


class Conformance:
    """What was run, by the name of the case."""

    def __init__(self, stack: BrokenStack, api: MockApi) -> None:
        self._stack = stack
        self._api = api
        # by the name of the case: what was registered, and what became of it
        self.texts: dict[str, str] = {}
        self.runs: dict[str, Run] = {}
        # those that others have gone on with
        self._ended_before: list[str] = []

    def run(self, cases: Sequence[Case]) -> None:
        """Register all of them, start all, and wait for all."""
        for text in called():
            self._stack.register(text)
        started: dict[str, str] = {}
        cancelled: list[Case] = []
        signalled: list[Case] = []
        for case in cases:
            text = self.texts[case.name] = registered(case.playbook, self._api.url)
            try:
                self._stack.register(text)
                started[case.name] = self._stack.execute(case.catalog_path, self._payload(case))
            except RuntimeError as error:
                self.runs[case.name] = Run(refusal=str(error))
                continue
            if case.expected.cancelled_at or case.expected.child_cancelled_at:
                cancelled.append(case)
            if case.expected.signals_at or case.expected.variables_at:
                signalled.append(case)
        for case in signalled:
            self._signal(case.expected, started[case.name])
        for case in cancelled:
            self._cancel(case.expected, started[case.name])
        entries = self._stack.wait(started.values(), PATIENCE)
        for case in cases:
            if case.expected.restarted is not None and case.name in started:
                self._ended_before.append(started[case.name])
                started[case.name] = self._restart(case.expected.restarted, entries[started[case.name]])
        entries |= self._stack.wait([id for id in started.values() if id not in entries], PATIENCE)
        for name, id in started.items():
            self.runs[name] = Run(entries[id], events_of(self._stack.log(id)))

    def _restart(self, how: Restarted, entry: dict[str, Any]) -> str:
        """The execution that goes on."""
        assert entry["status"] == "FAILED", entry
        body = {"payload": how.payload, **({"from": how.step} if how.step else {})}
        return str(self._stack.call("POST", f"/api/executions/{entry['execution_id']}/restart", body)["execution_id"])

    def _cancel(self, expected: Expected, execution_id: str) -> None:
        """The execution, or its sub-playbook, once the step that the case names has begun."""
        if step := expected.cancelled_at:
            eventually(lambda: self._events(execution_id, e.ISSUED, step), PATIENCE)
        else:
            step = expected.child_cancelled_at
            (event,) = eventually(lambda: self._events(execution_id, e.CHILD_STARTED, step), PATIENCE)
            execution_id = event.payload["execution_id"]
        self._stack.call("POST", f"/api/executions/{execution_id}/cancel", {})

    def _signal(self, expected: Expected, execution_id: str) -> None:
        for step, variables in expected.variables_at.items():
            eventually(lambda: self._events(execution_id, e.WAIT_STARTED, step), PATIENCE)  # noqa: B023
            self._stack.call("POST", f"/api/vars/{execution_id}", {"variables": variables})
        for step, signals in expected.signals_at.items():
            eventually(lambda: self._events(execution_id, e.ISSUED, step), PATIENCE)  # noqa: B023
            for name, data in signals.items():
                self._stack.call("POST", f"/api/executions/{execution_id}/signals/{name}", {"data": data})

    def _events(self, execution_id: str, type: str, step: str) -> list[Event]:
        return [event for event in events_of(self._stack.log(execution_id)) if (event.type, event.step) == (type, step)]

    def _payload(self, case: Case) -> dict[str, Any]:
        """With the mock API's address for those that have a place for it."""
        workload = yaml.safe_load(case.playbook).get("workload") or {}
        return {**({"api": self._api.url} if "api" in workload else {}), **case.expected.payload}

    def audit(self) -> list[Finding]:
        last = [run.execution_id for run in self.runs.values() if run.entry]
        return self._stack.audit([*last, *self._ended_before])


@contextlib.contextmanager
def conformance() -> Iterator[Conformance]:
    with mock_api() as api, broken_tls() as tls_port, broken_stack(processes="together") as stack:
        api.scripts.update(CONTENTS)
        create_database(stack.database_url, DATABASE)
        parts = urlsplit(stack.database_url)
        secret = {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "password": parts.password,
            "database": DATABASE,
        }
        databases = {
            "pg": secret,
            "pg_wrong_password": {**secret, "password": "wrong"},
            # where nothing listens
            "pg_nowhere": {**secret, "port": 9},
            "pg_broken_tls": {**secret, "port": tls_port, "sslmode": "require"},
        }
        own = ({"name": name, "type": "postgres", "data": data} for name, data in databases.items())
        for credential in (*own, *_of_google(api), *CREDENTIALS):
            stack.call("POST", "/api/credentials", credential)
        yield Conformance(stack, api)


def _of_google(api: MockApi) -> Iterator[dict[str, Any]]:
    """A service account, whose key file is also a secret of Google's, and who may read that."""
    account = api.secrets.key_file(api.url)
    api.secrets.keep("account", json.dumps(account))
    yield {"name": "google", "type": "service_account", "data": account}


def shown(value: Any) -> str:
    """For a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 2000 else f"{text[:2000]}..."
