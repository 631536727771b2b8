"""Callback URLs on the real stack: somebody without an account answers by one, once, and nothing keeps it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.e2e.faults import eventually
from tests.e2e.messages import messages
from tests.e2e.stack import Stack

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: answered, path: callbacks/answered}
executor: {spec: {durability: DURABILITY}}
keychain:
  - {name: boss, kind: callback, approval: manager, ttl: 1h}
  - {name: brief, kind: callback, approval: manager, ttl: 1s}
  - {name: payment, kind: callback, signal: paid}
workload: {chat: none}
workflow:
  - step: send
    tool:
      kind: http
      method: POST
      url: "{{ workload.chat }}"
      body:
        boss: "{{ keychain.boss.url }}"
        brief: "{{ keychain.brief.url }}"
        payment: "{{ keychain.payment.url }}"
        until: "{{ keychain.boss.expires_at }}"
    next: {arcs: [{step: print}]}
  - step: print
    input: {url: "{{ keychain.boss.url }}"}
    tool: {kind: python, code: "print('printed', url); result = {'url': url, 'token': url.rpartition('/')[2]}"}
    next: {arcs: [{step: ask}]}
  - {step: ask, tool: {kind: wait, approval: manager}, next: {arcs: [{step: hold}]}}
  - {step: hold, tool: {kind: wait, signal: paid}}
"""


@dataclass(frozen=True)
class Answer:
    status: int
    type: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> tuple[int, str]:
        return self.status, self.json["code"]


def call(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """As somebody who has nothing but the URL."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response.status, response.headers.get_content_type(), response.read())
    except urllib.error.HTTPError as refused:
        return Answer(refused.code, refused.headers.get_content_type(), refused.read())


def post(url: str, data: Any) -> Answer:
    return call(url, "POST", json.dumps(data).encode(), content_type="application/json")


def start(stack: Stack, tmp_path: Path, durability: str = "step") -> tuple[str, dict[str, str]]:
    """The id of an execution that waits, and its URLs as the chat has received them."""
    playbook = tmp_path / "answered.yaml"
    playbook.write_text(PLAYBOOK.replace("DURABILITY", durability))
    with messages() as (chat, received):
        id = stack.start(playbook, {"chat": chat})
        eventually(lambda: "wait.started" in {event["event_type"] for event in stack.events(id)})
    [urls] = received
    return id, urls


def signals(stack: Stack, id: str) -> list[dict[str, Any]]:
    return [event["payload"] for event in stack.events(id) if event["event_type"] == "signal.received"]


def on_disk(data: Path, tokens: list[str]) -> list[str]:
    """Every file of the stack that holds a token, as it is or in base64: the database, its WAL, the stream, the
    results, the logs."""
    forms = [form for token in tokens for form in (token.encode(), base64.b64encode(token.encode()))]
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) > 100, "there is nothing to look at"
    contents = ((path, path.read_bytes()) for path in files)
    return [str(path.relative_to(data)) for path, content in contents if any(form in content for form in forms)]


@pytest.mark.parametrize("durability", ["step", "pipelined"])
def test_two_persons_answer_and_nothing_keeps_their_urls(stack: Stack, tmp_path: Path, durability: str) -> None:
    id, urls = start(stack, tmp_path, durability)
    gateway = stack.ask("status")["gateway_url"]
    assert urls["boss"].startswith(f"{gateway}/callbacks/") and urls["until"].endswith("Z")

    # whatever follows links answers nothing
    page = call(urls["boss"], accept="text/html")
    assert (page.status, page.type) == (200, "text/html") and b"callbacks/answered" in page.body
    assert call(urls["boss"], "HEAD").body == b""
    assert signals(stack, id) == []

    form = urlencode({"decision": "approve", "comment": "<i>fine</i>"}).encode()
    thanks = call(urls["boss"], "POST", form, accept="text/html", content_type="application/x-www-form-urlencoded")
    assert (thanks.status, thanks.type) == (200, "text/html") and b"&lt;i&gt;fine" in thanks.body
    assert post(urls["payment"], {"sum": 7}).json["status"] == "accepted"
    stack.events(id, follow=True)
    shown = stack.ask("show", id)
    assert (shown["status"], shown["result"]) == ("COMPLETED", {"data": {"sum": 7}})

    [approved, paid] = signals(stack, id)
    assert approved["data"] == {"approved": True, "comment": "<i>fine</i>"}
    assert (approved["by"]["name"], paid["by"]["name"]) == ("boss", "payment")
    assert "somebody with the URL of keychain.boss" in stack("explain", id, "ask").out

    tokens = [urls[name].rpartition("/")[2] for name in ("boss", "brief", "payment")]
    everything = json.dumps([shown, stack.events(id)]) + stack("explain", id).out
    assert "printed ***" in everything, "nothing was printed, so nothing was looked at"
    assert [token for token in tokens if token in everything] == []
    assert on_disk(stack.data, tokens) == []
    logs = "".join(path.read_text(errors="replace") for path in stack.data.rglob("*.log"))
    assert "/callbacks/***" in logs and approved["by"]["id"] in logs, "neither the call nor the audit was logged"


def test_an_execution_runs_again_from_its_file_without_a_url(stack: Stack, tmp_path: Path) -> None:
    playbook, file = tmp_path / "sent.yaml", tmp_path / "run.noetl"
    sent = PLAYBOOK[: PLAYBOOK.index("    next: {arcs: [{step: ask}]}")].replace("DURABILITY", "step")
    playbook.write_text(sent.replace("answered", "sent"))
    with messages() as (chat, received):
        id = stack.run(playbook, {"chat": chat})["execution_id"]
        assert stack.ask("export", id, "-o", str(file))["masked"] == 0, "there was something left to mask"
        assert stack.ask("rerun", str(file))["same"]
    assert len(received) == 1, "it was sent again"
    assert stack("replay", id).status == 0


def test_each_url_gives_one_answer(stack: Stack, tmp_path: Path) -> None:
    id, urls = start(stack, tmp_path)
    assert post(urls["boss"], {"approved": True}).json["status"] == "accepted"
    again = post(urls["boss"], {"approved": True})
    assert (again.status, again.json["status"]) == (200, "duplicate")
    other = post(urls["boss"], {"approved": False})
    assert other.code == (409, "callback.answered") and other.json["answer"] == {"approved": True}
    assert b"has been answered" in call(urls["boss"], accept="text/html").body
    assert len(signals(stack, id)) == 1
    stack.ask("cancel", id)
    assert post(urls["payment"], 1).code == (410, "callback.over")
    assert post(urls["boss"], {"approved": False}).code == (409, "callback.answered")


def test_what_is_expired_forged_or_no_answer_is_refused(stack: Stack, tmp_path: Path) -> None:
    id, urls = start(stack, tmp_path)
    boss = urls["boss"]
    base, _, token = boss.rpartition("/")
    head, body, signature = token.split(".")
    eventually(lambda: call(urls["brief"]).status == 410)
    assert post(urls["brief"], {"approved": True}).code == (410, "callback.expired")
    for forged in (f"{head}.{body}.{signature[::-1]}", f"{head}.{body}.", "a.b.c"):
        assert post(f"{base}/{forged}", {"approved": True}).code == (404, "callback.invalid"), forged
    assert post(f"{base}/x", {"approved": True}).code == (404, "resource.not_found")
    for method in ("PUT", "DELETE", "PATCH"):
        assert call(boss, method).code == (405, "request.method_not_allowed")
    assert post(boss, {"approved": "perhaps"}).code == (400, "request.invalid")
    assert call(boss, "POST", b"x" * 300_000, content_type="text/plain").code == (413, "request.too_large")
    problem = call(f"{base}/a.b.c", accept="text/html")
    assert (problem.status, problem.type) == (404, "text/html")
    assert signals(stack, id) == []
    assert post(boss, {"approved": True}).status == 200


def test_while_it_is_paused_the_answer_is_kept(stack: Stack, tmp_path: Path) -> None:
    id, urls = start(stack, tmp_path)
    stack.ask("pause", id)
    assert b"kept until it goes on" in call(urls["boss"], accept="text/html").body
    assert post(urls["boss"], {"approved": True}).status == 200
    stack.ask("signal", id, "paid")
    assert stack.ask("show", id)["status"] == "RUNNING"
    stack.ask("resume", id)
    stack.events(id, follow=True)
    assert stack.ask("show", id)["status"] == "COMPLETED"
