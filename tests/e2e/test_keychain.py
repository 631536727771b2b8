"""Secrets of a keychain on the real stack: they reach the server they are for, and nothing that the engine keeps."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from tests.e2e.stack import Stack
from tests.serving import serving

CLIENT, CLIENT_SECRET = "the-client", "cl1ent/s3cret+of?one"
TOKEN = "t0ken-that-nobody/may+see"
BROKEN_LINE = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASC\n-----END KEY-----"
SECRETS = (CLIENT_SECRET, TOKEN, "MIIEvQIBADANBgkqh")

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: secret, path: keychain/secret}
executor: {spec: {durability: DURABILITY}}
workload: {api: none, fail: 0}
keychain:
  - name: client
    kind: secrets
    provider: credential
    scope: global
    auth: e2e_client
    map: {id: client_id, phrase: client_secret}
  - name: api
    kind: oauth2
    scope: SCOPE
    auto_renew: true
    endpoint: "{{ workload.api }}/token"
    data:
      grant_type: client_credentials
      client_id: "{{ keychain.client.id }}"
      client_secret: "{{ keychain.client.phrase }}"
  - {name: file, kind: credential, credential: e2e_file}
workflow:
  - step: send
    tool:
      kind: http
      url: "{{ workload.api }}/echo"
      headers: {Authorization: "Bearer {{ keychain.api.access_token }}"}
    next: {arcs: [{step: named}]}
  - step: named
    tool: {kind: http, url: "{{ workload.api }}/named", auth: api}
    next: {arcs: [{step: print}]}
  - step: print
    input: {token: "{{ keychain.api.access_token }}", n: 1}
    tool:
      - name: keep
        kind: python
        code: "result = {'kept': token}"
      - name: show
        kind: python
        input: {key: "{{ keychain.file.value }}", kept: "{{ keep.kept }}"}
        code: |
          import base64
          print("printed", token, key, repr(key), base64.b64encode(f"user:{token}".encode()).decode())
          result = {"given": token, token: [key], "n": n, "kept": kept, "url": "https://x?t=" + token}
    next: {arcs: [{step: fail, when: "{{ workload.fail }}"}]}
  - step: fail
    set: {ctx.seen: "{{ event.name }}"}
    tool:
      kind: http
      url: "{{ workload.api }}/refuse"
      method: POST
      body: {token: "{{ keychain.api.access_token }}"}
      spec:
        policy:
          rules:
            - when: "{{ output.status == 'error' }}"
              then: {do: continue, set: {ctx.said: "{{ output.error.message }}"}}
    next: {arcs: [{step: raise}]}
  - step: raise
    tool:
      kind: python
      input: {token: "{{ keychain.api.access_token }}"}
      code: "raise ValueError('with ' + token)"
"""


class Server:
    """A token endpoint, and an API that sends back what it received."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        # where the token arrived
        self.arrived: set[str] = set()
        self.lock = threading.Lock()
        self.denies = False

    def answer(self, path: str, headers: dict[str, str], body: str) -> tuple[int, Any]:
        with self.lock:
            self.requests[path] += 1
        if path == "/token":
            form = parse_qs(body)
            if self.denies or form["client_secret"] != [CLIENT_SECRET] or form["client_id"] != [CLIENT]:
                return 401, {"error": "invalid_client", "sent": body}
            return 200, {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
        if headers.get("authorization") == f"Bearer {TOKEN}":
            self.arrived.add(path)
        return (418 if path == "/refuse" else 200), {"headers": headers, "body": body, "url": f"/?a={quote(TOKEN)}"}


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = state.answer(self.path, headers, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.send_header("x-echo", headers.get("authorization", ""))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle

        def log_message(self, format: str, *args: object) -> None:
            return None

    with serving(Handler) as url:
        yield state, url


@pytest.fixture
def stored(stack: Stack) -> None:
    secret = json.dumps({"client_id": CLIENT, "client_secret": CLIENT_SECRET})
    assert stack("credential", "set", "e2e_client", "--type", "oauth2", "--value", "@-", input=secret).status == 0
    key = json.dumps({"value": BROKEN_LINE})
    assert stack("credential", "set", "e2e_file", "--type", "file", "--value", "@-", input=key).status == 0


def traces(text: str) -> list[str]:
    """The secrets that can be found in a text, as they are or in one of their forms."""
    found = []
    for secret in SECRETS:
        whole = base64.b64encode(f"user:{secret}".encode()).decode()
        forms = (secret, quote(secret, safe=""), quote(secret), base64.b64encode(secret.encode()).decode(), whole)
        found += [form for form in forms if form in text]
    return found


def on_disk(data: Path) -> dict[str, list[str]]:
    """Every file of the stack that holds a secret: the database, its WAL, the stream, the results, the logs."""
    files = (path for path in data.rglob("*") if path.is_file())
    found = {str(path.relative_to(data)): traces(path.read_bytes().decode("latin-1")) for path in files}
    return {name: secrets for name, secrets in found.items() if secrets}


@pytest.mark.parametrize(("scope", "durability"), [("local", "step"), ("global", "step"), ("shared", "pipelined")])
def test_no_secret_is_in_what_the_engine_keeps_or_shows(
    stack: Stack, stored: None, server: tuple[Server, str], tmp_path: Path, scope: str, durability: str
) -> None:
    state, url = server
    playbook = tmp_path / "secret.yaml"
    playbook.write_text(PLAYBOOK.replace("SCOPE", scope).replace("DURABILITY", durability))
    good = stack.run(playbook, {"api": url})
    assert state.arrived == {"/echo", "/named"}, "the token did not reach the server that it is for"
    assert (good["result"]["given"], good["result"]["kept"], good["result"]["n"]) == ("***", "***", 1), good["result"]
    bad = stack.run(playbook, {"api": url, "fail": 1}, status=1)
    assert bad["status"] == "FAILED" and "with ***" in json.dumps(bad["error"]), bad
    shown = json.dumps([good, bad, *(stack.events(run["execution_id"]) for run in (good, bad))])
    assert "printed ***" in shown, "nothing was printed, so nothing was looked at"
    assert traces(shown) == []
    assert on_disk(stack.data) == {}
    # once for each execution, or once for both
    assert state.requests["/token"] == (1 if scope == "global" else 2)


def test_an_execution_runs_again_from_its_file_without_any_secret(
    stack: Stack, stored: None, server: tuple[Server, str], tmp_path: Path
) -> None:
    state, url = server
    playbook, file = tmp_path / "secret.yaml", tmp_path / "run.noetl"
    playbook.write_text(PLAYBOOK.replace("SCOPE", "local").replace("DURABILITY", "step"))
    id = stack.run(playbook, {"api": url})["execution_id"]
    assert stack.ask("export", id, "-o", str(file))["masked"] == 0, "there was something left to mask"
    requests = state.requests.copy()
    again = stack.ask("rerun", str(file))
    assert again["same"] and state.requests == requests, again
    assert stack("replay", id).status == 0


def test_the_cache_is_listed_and_cleared_from_the_command_line(
    stack: Stack, stored: None, server: tuple[Server, str], tmp_path: Path
) -> None:
    state, url = server
    playbook = tmp_path / "secret.yaml"
    playbook.write_text(PLAYBOOK.replace("SCOPE", "global").replace("DURABILITY", "step"))
    stack.run(playbook, {"api": url})
    listed = stack.ask("keychain", "list", "keychain/secret")
    assert {entry["keychain_name"] for entry in listed} == {"client", "api"}
    assert traces(json.dumps(listed)) == []
    assert stack.ask("keychain", "delete", "keychain/secret", "api")["count"] >= 1
    stack.run(playbook, {"api": url})
    assert state.requests["/token"] == 2


def test_a_denied_secret_fails_the_step_and_shows_nothing(
    stack: Stack, stored: None, server: tuple[Server, str], tmp_path: Path
) -> None:
    state, url = server
    state.denies = True
    playbook = tmp_path / "secret.yaml"
    playbook.write_text(PLAYBOOK.replace("SCOPE", "local").replace("DURABILITY", "step"))
    run = stack.run(playbook, {"api": url}, status=1)
    assert run["error"]["code"] == "keychain.denied", run
    assert "'api'" in run["error"]["message"] and "401" in run["error"]["message"], run["error"]
    assert traces(json.dumps([run, stack.events(run["execution_id"])])) == []
    assert on_disk(stack.data) == {}
