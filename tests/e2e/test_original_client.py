"""The original NoETL's own command line, as published, against a stack: what its users type, and what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from localstack import toolbox
from tests.e2e.stack import PATIENCE, Done, Stack

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: greeting, path: original/greeting}
workload: {name: world}
workflow:
  - step: greet
    tool: {kind: python, code: "result = f'hello {name}'", input: {name: "{{ workload.name }}"}}
"""
SLOW = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: slow, path: original/slow}
workflow:
  - step: wait
    tool: {kind: python, code: "import time; time.sleep(600)"}
"""
FAULTY = PLAYBOOK.replace("workload.name", "worklod.name").replace("kind: python,", "kind: pyton,")
TERMINAL_COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Client:
    """`noetl` with a home folder of its own. `options` go before each command."""

    def __init__(self, home: Path, *options: str, token: str | None = None) -> None:
        # not by its first line, which names the folder that the environment was made in
        self._program = [toolbox.python("noetl"), str(toolbox.tool("noetl") / "bin" / "noetl")]
        self._home = home
        self._options = options
        self._environment = {} if token is None else {"NOETL_SESSION_TOKEN": token}

    def __call__(self, *words: str) -> Done:
        done = subprocess.run(
            [*self._program, *self._options, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=self._home,
            env={"PATH": os.environ["PATH"], "HOME": str(self._home), **self._environment},
        )
        return Done(done.returncode, TERMINAL_COLOR.sub("", done.stdout), TERMINAL_COLOR.sub("", done.stderr))

    def text(self, *words: str) -> str:
        """What a command that succeeds prints."""
        done = self(*words)
        assert done.status == 0, f"exit {done.status}\n{done.out}\n{done.err}"
        return done.out

    def document(self, *words: str) -> Any:
        return json.loads(self.text(*words))

    def start(self, path: str, *words: str) -> str:
        return str(self.document("run", path, "--runtime", "distributed", "--json", *words)["execution_id"])

    def ended(self, execution_id: str) -> dict[str, Any]:
        """The status, as soon as it has completed or failed: as scripts wait."""
        deadline = time.monotonic() + PATIENCE
        while True:
            status: dict[str, Any] = self.document("status", execution_id, "--json")
            if status["completed"] or status["failed"]:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.1)


@pytest.fixture(scope="module")
def access(stack: Stack) -> dict[str, str]:
    """{token, url, control_plane_url, gateway_url} of the stack."""
    return {**stack.ask("status"), **stack.ask("token")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name, text in (("greeting.yaml", PLAYBOOK), ("slow.yaml", SLOW), ("faulty.yaml", FAULTY)):
        (tmp_path / name).write_text(text)
    (tmp_path / "database.json").write_text('{"name": "original", "type": "generic", "data": {"password": "hidden"}}')
    return tmp_path


@pytest.fixture(params=["password in the URL", "token in the environment", "a context"])
def noetl(request: pytest.FixtureRequest, access: dict[str, str], home: Path) -> Client:
    """Each of the ways in which the client sends an operator's token."""
    if request.param == "password in the URL":
        return Client(home, "--server-url", access["url"])
    client = Client(home, token=access["token"])
    if request.param == "a context":
        client.text("context", "add", "it", "--server-url", access["control_plane_url"], "--set-current")
        return client
    return Client(home, "--server-url", access["control_plane_url"], token=access["token"])


@pytest.fixture
def of_operator(access: dict[str, str], home: Path) -> Client:
    return Client(home, "--server-url", access["url"])


def test_register_run_and_status(noetl: Client) -> None:
    assert '"path":"original/greeting"' in noetl.text("register", "playbook", "--file", "greeting.yaml")
    started = noetl("run", "original/greeting", "--runtime", "distributed", "--set", "name=Ann")
    assert started.status == 0 and "Execution started" in started.out, started
    [execution_id] = re.findall(r'"execution_id": "(\d+)"', started.out)
    ended = noetl.ended(execution_id)
    assert (ended["completed"], ended["failed"], ended["completed_steps"]) == (True, False, ["greet"])
    shown = noetl.text("status", execution_id)
    assert "COMPLETED" in shown and "- greet" in shown
    again = noetl.document("execute", "rerun", execution_id, "--json")["execution_id"]
    assert noetl.ended(again)["completed"]


def test_a_version_and_a_payload(of_operator: Client, stack: Stack) -> None:
    noetl = of_operator
    noetl.text("catalog", "register", "greeting.yaml")
    execution_id = noetl.start("catalog://original/greeting@1", "--payload", '{"name": "Bob"}')
    noetl.ended(execution_id)
    assert stack.ask("show", execution_id)["result"]["data"] == "hello Bob"


def test_list_catalog_and_get(noetl: Client) -> None:
    noetl.text("catalog", "register", "greeting.yaml")
    noetl.text("register", "credential", "--file", "database.json")
    for command in (("list",), ("catalog", "list")):
        assert "original/greeting" in noetl.text(*command, "Playbook")
        entries = noetl.document(*command, "Playbook", "--json")["entries"]
        assert "original/greeting" in [entry["path"] for entry in entries]
        credentials = noetl.text(*command, "Credential", "--json")
        assert "original" in [entry["path"] for entry in json.loads(credentials)["entries"]]
        assert "hidden" not in credentials
    entry = noetl.document("catalog", "get", "original/greeting")
    assert (entry["kind"], entry["content"]) == ("Playbook", PLAYBOOK)
    stored = noetl.document("get", "credential", "original")
    assert (stored["name"], stored["data"]) == ("original", {"password": "hidden"}), "the client asks for the data"


def test_cancel(noetl: Client) -> None:
    noetl.text("register", "playbook", "--file", "slow.yaml")
    execution_id = noetl.start("original/slow")
    assert "RUNNING" in noetl.text("status", execution_id)
    cancelled = noetl.text("cancel", execution_id, "--reason", "enough", "--cascade")
    assert "CANCELLED" in cancelled and "Cancelled: 1 execution(s)" in cancelled
    assert noetl.document("cancel", execution_id, "--json")["status"] == "already_completed"
    ended = noetl.ended(execution_id)
    assert (ended["status"], ended["cancelled"]) == ("CANCELLED", True)


def test_clean_up(of_operator: Client) -> None:
    found = of_operator.document("cleanup", "--older-than-minutes", "600", "--dry-run", "--json")
    assert (found["cancelled_count"], found["execution_ids"]) == (0, [])
    done = of_operator("cleanup", "--older-than-minutes", "600")
    assert done.status == 0, done


def test_query(noetl: Client) -> None:
    noetl.text("register", "playbook", "--file", "greeting.yaml")
    execution_id = noetl.start("original/greeting")
    noetl.ended(execution_id)
    sql = f"SELECT execution_id, path, status FROM noetl.execution WHERE execution_id = {execution_id}"
    table = noetl.text("query", sql)
    _, head, _, row, *_ = table.splitlines()
    assert [cell.strip() for cell in head.split("│")[1:-1]] == ["execution_id", "path", "status"]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [execution_id, "original/greeting", "COMPLETED"]
    answer = noetl.document("query", f"SELECT * FROM event WHERE execution_id = {execution_id}", "--format", "json")
    types = [row[answer["columns"].index("event_type")] for row in answer["result"]]
    assert types[-1] == "playbook.completed"
    refused = noetl("query", "SELECT * FROM noetl.credential")
    assert refused.status == 1 and "the views are execution, event, command, catalog" in refused.err, refused


def test_a_folder_is_loaded_and_a_faulty_file_in_it_is_named(of_operator: Client) -> None:
    loaded = of_operator("catalog", "load", "greeting.yaml", "slow.yaml", "faulty.yaml")
    assert loaded.status == 1 and "registered 2, failed 1" in loaded.out + loaded.err, loaded
    assert re.search(r"FAIL \S*faulty\.yaml: line \d+, column \d+: ", loaded.out + loaded.err), loaded


def test_errors_are_shown_with_what_is_wrong_and_where(of_operator: Client) -> None:
    refused = of_operator("register", "playbook", "--file", "faulty.yaml")
    assert refused.status == 1 and re.search(r"422.*line 7, column \d+: .*pyton", refused.err), refused
    missing = of_operator("run", "original/nowhere", "--runtime", "distributed")
    assert missing.status == 1 and "the catalog has no original/nowhere" in missing.err, missing
    unknown = of_operator("status", "12")
    assert "there is no execution 12" in unknown.out + unknown.err, unknown


def test_without_a_valid_token_nothing_is_served(access: dict[str, str], home: Path) -> None:
    url, gateway = access["control_plane_url"], access["gateway_url"]
    for client in (
        Client(home, "--server-url", url),
        Client(home, "--server-url", url, token="guess"),
        Client(home, "--server-url", url.replace("http://", "http://noetl:guess@")),
        Client(home, "--server-url", gateway, "--gateway", token="guess"),
    ):
        refused = client("register", "playbook", "--file", "greeting.yaml")
        # the client's own exit status for a session that has ended is 77
        assert refused.status in (1, 77) and "401" in refused.err, refused


def test_a_user_s_session_at_the_gateway(access: dict[str, str], home: Path) -> None:
    request = urllib.request.Request(
        f"{access['gateway_url']}/api/auth/login", b'{"user": "ann"}', {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        session = json.load(answer)["session_token"]
    noetl = Client(home, "--server-url", access["gateway_url"], "--gateway", token=session)
    noetl.text("register", "playbook", "--file", "greeting.yaml")
    execution_id = noetl.start("original/greeting")
    assert noetl.ended(execution_id)["principal"] == {"kind": "user", "name": "ann"}
    assert "403" in noetl("query", "SELECT 1").err, "SQL is for operators"
