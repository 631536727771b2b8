from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from noetl_serverless.errors import Fault, InvalidPlaybook
from noetl_serverless.limits import SCRIPT_BYTES
from noetl_serverless.playbook.document import Unreadable, read_document
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan, Task
from noetl_serverless.playbook.scripts import InvalidScripts, Script, as_content, scripts_of, split, with_scripts
from noetl_serverless.playbook.template import SqlTemplate

from .playbooks import playbook, tool

PYTHON = "kind: python\nscript: {uri: lib/load.py}"
NO_PLAYBOOKS: list[Any] = [None, [], {"workflow": 1}, {"workflow": [1]}]
CODE = "x = n + 1\nresult = context['ctx']['x'], x\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def plan(text: str, **scripts: str) -> Plan:
    return load_plan(
        with_scripts(tool(text), {name.replace("__", "/") + ".py": code for name, code in scripts.items()})
    )


def task(text: str, content: str, location: str = "lib/load.py") -> Task:
    return load_plan(with_scripts(tool(text), {location: content})).steps["a"].tasks[0]


def only_fault(text: str, scripts: dict[str, str]) -> Fault:
    with pytest.raises(InvalidPlaybook) as caught:
        load_plan(with_scripts(tool(text), scripts))
    assert len(caught.value.faults) == 1, caught.value.faults
    return caught.value.faults[0]


class TestText:
    def test_scripts_follow_the_document_and_change_nothing_in_it(self) -> None:
        text = "a: 1\n# the end"
        whole = with_scripts(text, {"b.py": "x = 'ü'\n--- # scripts\n", "a.sql": ""})
        assert whole.startswith("a: 1\n# the end\n--- # scripts, as they were")
        assert split(whole) == ("a: 1\n# the end\n", {"a.sql": "", "b.py": "x = 'ü'\n--- # scripts\n"})
        assert with_scripts(whole, {"c.py": "1"}) == with_scripts(text, {"c.py": "1"})
        assert (with_scripts(whole, {}), split(text)) == ("a: 1\n# the end\n", (text, {}))

    def test_a_document_is_read_without_its_scripts(self) -> None:
        document = read_document(with_scripts("a: 1", {"b.py": "x = 1"}))
        assert (dict(document.root), document.scripts) == ({"a": 1}, {"b.py": "x = 1"})

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ("", "a JSON object"),
            ("[1]", "a JSON object"),
            ('{"a": 1}', "a JSON object"),
            ('{"a": {"content": "x"}}', "a JSON object"),
            ('{"a": {"content": "\\ud800", "sha256": "x"}}', "a JSON object"),
            ("[" * 200_000, "a JSON object"),
            ('{"a": {"content": "x", "sha256": "0"}}', "the script 'a' is not the one that its sha256 is of"),
            (f'{{"a": {{"content": "x\\u0000", "sha256": "{sha256("x" + chr(0))}"}}}}', "contains a NUL character"),
        ],
    )
    def test_what_is_no_script_is_refused(self, section: str, message: str) -> None:
        mark = with_scripts("a: 1", {"b": ""}).split("\n")[1]
        with pytest.raises(Unreadable, match=message) as caught:
            read_document(f"a: 1\n{mark}\n{section}")
        assert caught.value.fault.code == "playbook.script"

    def test_their_size_is_limited(self) -> None:
        assert len(as_content("a", b"x" * SCRIPT_BYTES)) == SCRIPT_BYTES
        with pytest.raises(InvalidScripts, match="'a' has more than 1048576 bytes"):
            as_content("a", b"x" * (SCRIPT_BYTES + 1))
        with pytest.raises(InvalidScripts, match="'a' is not UTF-8 text"):
            as_content("a", b"\xff")
        whole = with_scripts("a: 1", dict.fromkeys(("a", "b", "c"), "x" * SCRIPT_BYTES))
        with pytest.raises(InvalidScripts, match="more than 2097152 bytes together"):
            split(whole)


class TestPlace:
    @pytest.mark.parametrize(
        ("given", "type", "location"),
        [
            ({"uri": "lib/load.py"}, "file", "lib/load.py"),
            ({"uri": "./load.py", "source": {"type": "file"}}, "file", "./load.py"),
            ({"uri": "https://h/x.py"}, "http", "https://h/x.py"),
            ({"uri": "http://h/x.py", "source": {"type": "http"}}, "http", "http://h/x.py"),
            ({"uri": "x.py", "source": {"type": "http", "endpoint": "https://h/lib"}}, "http", "https://h/lib/x.py"),
            (
                {"uri": "x.py", "source": {"type": "http", "endpoint": "https://h/lib/x.py"}},
                "http",
                "https://h/lib/x.py",
            ),
            ({"uri": "etl", "source": {"type": "http", "endpoint": "https://h/etl"}}, "http", "https://h/etl/etl"),
            ({"uri": "h.com", "source": {"type": "http", "endpoint": "https://h.com"}}, "http", "https://h.com/h.com"),
            ({"uri": "a.py", "source": {"type": "http", "endpoint": "https://h/x?y=/a.py"}}, "http", "https://h/a.py"),
            ({"uri": "s3://b/x.py"}, "s3", "s3://b/x.py"),
            ({"uri": "s3://b/x.py", "source": {"auth": "a", "endpoint": "https://h:1/"}}, "s3", "s3://b/x.py"),
            ({"uri": "gs://b/x.py", "source": {"type": "gcs"}}, "gcs", "gs://b/x.py"),
        ],
    )
    def test_the_scheme_or_the_source_says_where_it_is(self, given: dict[str, Any], type: str, location: str) -> None:
        script = Script.model_validate(given)
        assert (script.type, script.location) == (type, location)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"uri": "https://u:p@h/x.py"}, "a user and a password do not belong into a playbook"),
            ({"uri": "ftp://h/x.py"}, "there is no source for ftp://"),
            ({"uri": "file:///x.py"}, "there is no source for file://"),
            ({"uri": "x.py", "source": {"type": "s3"}}, "a uri of type s3 is like s3://bucket/load.py"),
            ({"uri": "x.py", "source": {"type": "http"}}, "a uri of type http is like https://host/load.py"),
            ({"uri": "s3://b/x", "source": {"type": "gcs"}}, "a uri of type gcs is like gs://bucket/load.py"),
            ({"uri": "https://h/x", "source": {"type": "file"}}, "a uri of type file is like dir/load.py"),
            ({"uri": "x", "source": {"endpoint": "https://h"}}, "'endpoint' requires type: http"),
            ({"uri": "{{ workload.x }}"}, "it cannot be a template"),
            ({"uri": "x", "sha256": "abc"}, "it must be 64 hexadecimal digits"),
            ({"uri": "x", "source": {"auth": "a"}}, "'auth' is for s3 and gcs"),
            ({"uri": "https://h/x", "source": {"auth": "a"}}, "'auth' is for s3 and gcs"),
            *(
                ({"uri": uri}, "is like")
                for uri in ("s3:///results/x", "gs://%72esults/x", "s3://Results/x", "s3://b", "gs://b/", "gs://b//x")
            ),
            *(
                ({"uri": uri}, "is like")
                for uri in ("s3://b/a?x=1", "s3://b/a#f", "s3://x/../b/k", "s3://./b/x", "s3://b:1/x")
            ),
            *(
                ({"uri": "s3://b/x", "source": {"auth": "a", "endpoint": endpoint}}, "the URL of a host alone")
                for endpoint in ("https://h/results", "https://h?x=", "https://u:p@h", "http://[", "https://h#f")
            ),
            ({"uri": "s3://b/x", "source": {"region": "r"}}, "'region' requires type: s3, with auth"),
            ({"uri": "gs://b/x", "source": {"region": "r", "auth": "a"}}, "'region' requires type: s3, with auth"),
            (
                {"uri": "s3://b/x", "source": {"endpoint": "https://h"}},
                "'endpoint' requires type: http, or s3 with auth",
            ),
            ({"uri": "s3://b/x", "source": {"auth": "{{ x }}"}}, "'auth' and 'region' cannot be templates"),
            ({"uri": "s3://b/x", "source": {"headers": {}}}, "'headers' is not supported: write 'auth'"),
            ({"uri": "x", "sorce": {}}, "Extra inputs are not permitted"),
            ({"source": {}}, "Field required"),
        ],
    )
    def test_what_is_no_place_is_refused(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError, match=message.replace("{", r"\{")):
            Script.model_validate(given)

    def test_those_of_a_document_are_found(self) -> None:
        root = read_document(
            playbook(
                """
                workbook: [{name: w, tool: {kind: duckdb, script: {uri: w.sql}}}]
                workflow:
                  - {step: a, tool: [{kind: noop, script: {uri: no.py}}, {kind: python, script: {uri: a.py}}]}
                  - {step: b, tool: {kind: postgres, script: "SELECT 1"}}
                  - {step: c, tool: {kind: postgres, script: {uri: "s3://b/c.sql"}}}
                  - {step: d, tool: {kind: python, script: {urk: d.py}}}
                """
            )
        ).root
        assert [(path, script.location) for path, script in scripts_of(root)] == [
            (("workflow", 0, "tool", 1, "script"), "a.py"),
            (("workflow", 2, "tool", "script"), "s3://b/c.sql"),
            (("workbook", 0, "tool", "script"), "w.sql"),
        ]
        assert [list(scripts_of(root)) for root in NO_PLAYBOOKS] == [[]] * 4


class TestPlan:
    def test_python_runs_the_script_as_its_code(self) -> None:
        found = task(PYTHON, CODE)
        assert (found.config, found.context) == ({"code": CODE}, {"ctx": {"x"}})
        assert task(PYTHON, "\ufeffresult = 1").config == {"code": "result = 1"}

    @pytest.mark.parametrize("kind", ["postgres", "duckdb"])
    def test_sql_binds_the_templates_of_the_script(self, kind: str) -> None:
        found = task(f"kind: {kind}\nscript: {{uri: lib/load.py}}", "SELECT {{ workload.n }}").config
        assert isinstance(found, dict)
        assert isinstance(found["command"], SqlTemplate)
        assert found.keys() == {"command"}

    @pytest.mark.parametrize("kind", ["postgres", "duckdb"])
    def test_a_script_that_is_a_text_is_the_sql_itself(self, kind: str) -> None:
        found = load_plan(tool(f"kind: {kind}\nscript: SELECT 1")).steps["a"].tasks[0].config
        assert found == {"script": SqlTemplate("SELECT 1")}

    def test_the_hash_is_that_of_the_document_and_the_scripts_it_names(self) -> None:
        one, other = plan(PYTHON, lib__load="result = 1"), plan(PYTHON, lib__load="result = 2")
        assert one.hash != other.hash
        assert plan(PYTHON, lib__load="result = 1", unused="x").hash == one.hash
        assert load_plan(tool("kind: noop")).hash == load_plan(with_scripts(tool("kind: noop"), {"x": "y"})).hash

    def test_a_digest_that_is_given_must_be_that_of_the_script(self) -> None:
        pinned = f"kind: python\nscript: {{uri: x.py, sha256: {sha256('result = 1').upper()}}}"
        assert task(pinned, "result = 1", "x.py").config == {"code": "result = 1"}
        fault = only_fault(pinned, {"x.py": "result = 2"})
        assert fault.message == f"the script has another sha256: {sha256('result = 2')}"
        assert (fault.pointer, fault.line) == ("/workflow/0/tool/script/sha256", 8)

    @pytest.mark.parametrize(
        ("text", "content", "pointer", "message"),
        [
            (PYTHON, None, "/uri", "the script 'lib/load.py' was not sent with the playbook: register it with 'noetls"),
            ("kind: python\nscript: {uri: 'https://h/x'}", None, "/uri", "the script 'https://h/x' is read when the"),
            (PYTHON, "x = 1\ny =", "", "Python: invalid syntax (line 2 of lib/load.py)"),
            (
                "kind: python\ncode: x = 1\nscript: {uri: lib/load.py}",
                "y = 1",
                "",
                "give only one of code, code_b64 and script",
            ),
            ("kind: duckdb\nscript: {uri: lib/load.py}", "SELECT\n{{ x", "", "template: unexpected end of template"),
            ("kind: duckdb\nscript: {uri: lib/load.py}", "SELECT\n{% x %}", "", "template: Encountered unknown tag"),
            (
                "kind: duckdb\nscript: {uri: lib/load.py}",
                "SELECT 1,\n{{ x | y }}",
                "",
                "template: there is no filter named 'y' (line 2 of lib/load.py)",
            ),
            ("kind: duckdb\nscript: {uri: a, srce: b}", "", "/srce", "unknown key 'srce'; did you mean 'source'?"),
            ("kind: python\nscript: {source: {type: file}}", "", "", "'uri' is required"),
            (
                "kind: python\nscript: {uri: x, source: {timeout: 0}}",
                "",
                "/source/timeout",
                "script.source.timeout: this must be more than 0",
            ),
            (
                "kind: python\nscript: {uri: x, source: {type: s4}}",
                "",
                "/source/type",
                "script.source.type: this must be one of file, http, s3, gcs",
            ),
            ("kind: python\nscript: {uri: x, source: s3}", "", "/source", "script.source: this must be a mapping, not"),
            ("kind: python\nscript: load.py", "", "", "a script is an object, {uri: lib/load.py}; code itself"),
        ],
    )
    def test_what_is_wrong_is_reported_at_the_script(
        self, text: str, content: str | None, pointer: str, message: str
    ) -> None:
        fault = only_fault(text, {} if content is None else {"lib/load.py": content})
        assert fault.message.startswith(message)
        assert (fault.pointer, fault.line) == (f"/workflow/0/tool/script{pointer}", 8 + text.count("\n") - 1)
