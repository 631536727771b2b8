"""`noetls catalog`, and tools of the catalog that are files beside a playbook."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.commands import catalog
from noetl_serverless.cli.main import app

TOOL = """apiVersion: noetl.io/v2
kind: Tool
metadata: {name: add, path: team/add}
input: {type: object, properties: {n: {type: integer}}, required: [n]}
tool: {kind: noop, result: "{{ n + 1 }}"}
"""
PLAYBOOK = """apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: p, path: team/p}
workflow:
  - {step: one, tool: {kind: tool, path: team/add, input: {n: 1}}}
"""


TIMES = {"created_at": "2026-01-01T00:00:00Z", "deleted_at": None}


class ControlPlane:
    """Answers each request with the next of `answers`."""

    def __init__(self, *answers: Any) -> None:
        self.answers = iter(answers)
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def post(self, path: str, body: dict[str, Any]) -> Any:
        self.requests.append((path, body))
        return next(self.answers)

    def register(self, text: str, *, strict: bool = False) -> dict[str, Any]:
        return self.post("/api/catalog/register", {"content": text})  # type: ignore[no-any-return]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    def serving(*answers: Any) -> ControlPlane:
        plane = ControlPlane(*answers)
        monkeypatch.setattr(catalog, "running_stack", lambda data: nullcontext(plane))
        return plane

    return serving


def noetls(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def entry(path: str, version: int = 1, kind: str = "Tool") -> dict[str, Any]:
    return {"path": path, "version": version, "kind": kind, "hash": "h", **TIMES}


def test_a_list_is_read_to_its_end_with_what_was_requested(serve: Any) -> None:
    plane = serve({"entries": [entry("a")], "next": 1}, {"entries": [entry("b")], "next": None})
    done = noetls("catalog", "list", "--kind", "Tool", "--agents", "--capability", "x", "--deleted", "--json")
    assert [one["path"] for one in json.loads(done.stdout)] == ["a", "b"]
    asked = {"resource_type": "Tool", "agent_only": True, "capabilities": ["x"], "include_deleted": True}
    assert plane.requests == [("/api/catalog/list", asked), ("/api/catalog/list", {**asked, "offset": 1})]


def test_a_stored_credential_is_no_document_of_the_catalog(serve: Any) -> None:
    stored = {**entry("key", kind="Credential"), "hash": None}
    serve({"entries": [entry("key", kind="Credential"), stored], "next": None})
    done = noetls("catalog", "list", "--kind", "Credential", "--json")
    assert [(one["path"], one["hash"]) for one in json.loads(done.stdout)] == [("key", "h")]


def test_the_text_of_a_version_is_printed_as_it_is(serve: Any) -> None:
    plane = serve({"content": TOOL})
    assert noetls("catalog", "get", "team/add", "--version", "2").stdout == TOOL
    assert plane.requests == [("/api/catalog/resource", {"path": "team/add", "version": 2})]


def test_versions_are_listed_page_by_page(serve: Any) -> None:
    plane = serve({"entries": [entry("a", 3)], "next": 3}, {"entries": [entry("a", 2)], "next": None})
    done = noetls("catalog", "versions", "a", "--json")
    assert [one["version"] for one in json.loads(done.stdout)] == [3, 2]
    assert [body.get("before") for _, body in plane.requests] == [None, 3]


def test_a_difference_ends_with_1_and_none_with_0(serve: Any) -> None:
    steps = [{"step": "one", "change": "changed", "parts": [{"where": "tool.url", "before": "a", "after": "b"}]}]
    serve({"base": 1, "version": 2, "text": "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+[y]\n", "steps": steps})
    done = noetls("catalog", "diff", "a", "1")
    assert (done.exit_code, done.stdout.splitlines()[-3:]) == (1, ["-x", "+[y]", "step one changed: tool.url"])
    plane = serve({"base": 1, "version": 2, "text": "", "steps": []})
    done = noetls("catalog", "diff", "a", "1", "2")
    assert (done.exit_code, done.stdout) == (0, "a: version 1 and version 2 are the same\n")
    assert plane.requests == [("/api/catalog/diff", {"path": "a", "base": 1, "version": 2})]


@pytest.mark.parametrize("what", ["delete", "restore"])
def test_a_version_or_a_whole_path_is_deleted_and_restored(serve: Any, what: str) -> None:
    plane = serve({"message": "done"}, {"message": "done"})
    assert noetls("catalog", what, "a").stdout == "done\n"
    assert noetls("catalog", what, "a", "--version", "3").exit_code == 0
    assert plane.requests == [
        (f"/api/catalog/{what}", {"path": "a"}),
        (f"/api/catalog/{what}", {"path": "a", "version": 3}),
    ]


def test_tools_are_registered_before_the_playbooks_that_call_them(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PLAYBOOK)
    (tmp_path / "z.yaml").write_text(TOOL)
    plane = serve(entry("team/add"), entry("team/p", kind="Playbook"))
    done = noetls("catalog", "register", str(tmp_path))
    assert done.stdout.splitlines() == ["team/add version 1", "team/p version 1"]
    assert [body["content"].split("\n")[1] for _, body in plane.requests] == ["kind: Tool", "kind: Playbook"]


def test_files_of_one_path_are_a_warning_if_they_differ(serve: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(PLAYBOOK)
    says = f"two files have the path team/p: {tmp_path / 'a.yaml'} and {tmp_path / 'b.yaml'}. "

    def versions(*numbers: int) -> list[dict[str, Any]]:
        return [{**entry("team/p", kind="Playbook"), "version": number} for number in numbers]

    serve(*versions(1, 2))
    done = noetls("register", str(tmp_path))
    assert (done.exit_code, done.stdout.splitlines()) == (0, ["team/p version 1", "team/p version 2"])
    assert done.stderr.startswith(f"warning: {says}")
    serve(*versions(1, 2))
    first, second = json.loads(noetls("register", str(tmp_path), "--json").stdout)
    assert "warnings" not in first
    assert second["warnings"][0]["message"].startswith(says)
    serve(*versions(1, 1))
    assert noetls("register", str(tmp_path)).stderr == "", "the same text twice is one version"


def test_a_tool_beside_a_playbook_is_checked_with_it(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(PLAYBOOK.replace("n: 1", "n: one"))
    assert noetls("lint", str(file)).exit_code == 0, "what only the catalog has is checked at registration"
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "add.yaml").write_text(TOOL)
    done = noetls("lint", str(file))
    assert (
        done.exit_code,
        'team/add version 1: this must be an integer, not "one" [playbook.tool_input]' in done.stdout,
    ) == (
        1,
        True,
    )
    file.write_text(PLAYBOOK)
    assert noetls("lint", str(tmp_path)).stdout == "no errors\n"


def test_a_tool_beside_a_playbook_is_dry_run_and_tested_with_it(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(PLAYBOOK)
    without = noetls("run", "--dry-run", str(file))
    assert (without.exit_code, "the tool team/add is read from the catalog" in without.output) == (1, True)
    (tmp_path / "add.yaml").write_text(TOOL)
    assert noetls("run", "--dry-run", str(file)).exit_code == 0
    (tmp_path / "p.test.yaml").write_text(
        "kind: PlaybookTest\nplaybook: p.yaml\ncases:\n  - {name: adds, expect: {result: 2}}\n"
    )
    done = noetls("test", str(tmp_path / "p.test.yaml"))
    assert (done.exit_code, "1 passed" in done.stdout) == (0, True), done.output


def test_the_input_is_checked_in_a_dry_run_where_it_is_known(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    (tmp_path / "add.yaml").write_text(TOOL)
    file.write_text(
        PLAYBOOK.replace("n: 1", 'n: "{{ workload.n }}"').replace("workflow:", "workload: {n: 1}\nworkflow:")
    )
    assert noetls("run", "--dry-run", str(file)).exit_code == 0
    failed = noetls("run", "--dry-run", str(file), "--set", "n=text")
    assert (failed.exit_code, "tool.input_invalid" in failed.output) == (1, True)


@pytest.mark.parametrize("kind", ["Playbook", "tool", "AGENT", "Mcp", "Credential"])
def test_each_kind_of_document_has_a_schema(kind: str) -> None:
    document = json.loads(noetls("schema", "--kind", kind).stdout)
    assert document["properties"]["kind"]["description"]


def test_an_unknown_kind_of_document_has_none() -> None:
    done = noetls("schema", "--kind", "Thing")
    assert (done.exit_code, "Playbook, Tool, Agent, Mcp, Credential" in " ".join(done.output.split())) == (2, True)
    assert noetls("schema", "http", "--kind", "Tool").exit_code == 2


def test_a_kind_that_is_none_is_refused_without_a_stack() -> None:
    done = CliRunner().invoke(app, ["catalog", "list", "--kind", "Foo"])
    assert (done.exit_code, "--kind Foo: expected one of Playbook" in done.output) == (2, True), done.output
