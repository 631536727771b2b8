from __future__ import annotations

import pytest

from noetl_serverless.playbook.code_size import CodeTooLarge
from noetl_serverless.tools import registry
from noetl_serverless.tools.config import ToolConfig
from noetl_serverless.tools.port import ToolCall, ToolFailure
from noetl_serverless.tools.postgres_config import PostgresConfig

# compiled, it would be a hundred times as long
TOO_LARGE = "while n:\n try:\n" + "  if n: break\n" * 300 + " finally:\n" + "  a.b(c)\n" * 300


def messages(kind: str, config: dict[str, object]) -> list[tuple[str, str]]:
    return [(fault.pointer, fault.message) for fault in registry.check(kind, config)]


def test_every_kind_loads_and_documents_every_field() -> None:
    assert {"duckdb", "http", "noop", "playbook", "postgres", "python"} <= set(registry.kinds())
    for kind in registry.kinds():
        schema = registry.schema(kind)
        assert issubclass(registry.load(kind).config, ToolConfig)
        assert schema["additionalProperties"] is False
        assert schema["description"]
        assert all("description" in field for field in schema.get("properties", {}).values())


def test_a_tool_is_one_object_per_process() -> None:
    assert registry.load("noop") is registry.load("noop")


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(registry.UnknownKind, match="unknown tool kind 'htp'"):
        registry.load("htp")
    assert registry.check("htp", {})[0].code == "playbook.unknown_kind"


def test_a_kind_of_the_language_without_a_tool_is_not_supported_yet() -> None:
    (fault,) = registry.check("shell", {"cmds": ["ls"]})
    assert fault.code == "playbook.not_supported"
    assert fault.message == "tool kind 'shell' is not supported yet"


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("noop", {}),
        ("python", {"code": "result = 1"}),
        ("python", {"code": "result = f'{{{1}}}'"}),
        ("python", {"code": "return 1", "libs": {"np": "numpy"}}),
        ("python", {"script": {"uri": "lib/load.py", "source": {"type": "file"}}}),
        ("postgres", {"auth": "wh", "script": "select 1"}),
        ("postgres", {"auth": "wh", "script": {"uri": "s3://b/x.sql", "sha256": "0" * 64}}),
        ("duckdb", {"script": {"uri": "x.sql"}}),
        ("python", {"code": "await x", "libs": ["os.path", "json"]}),
        ("python", {"code_b64": "cmVzdWx0ID0gMQ=="}),
        ("http", {"url": "{{ workload.api }}/x", "method": "{{ m }}", "headers": "{{ h }}", "timeout": "{{ t }}"}),
        ("http", {"url": "x", "auth": {"credential": "c", "type": "bearer"}, "data": {"query": {"a": "{{ x }}"}}}),
        ("postgres", {"auth": "wh", "command": "select {{ x }}", "params": "{{ p }}", "max_rows": "{{ n }}"}),
        ("postgres", {"auth": "wh", "table": "t", "rows": "{{ fetch.rows }}", "mode": "replace"}),
        ("duckdb", {"commands": ["select 1", "select {{ x }}"], "threads": "{{ n }}"}),
        ("http", {"url": "x", "data": {"a": 1}}),
        ("noop", {"result": {"a": "{{ x }}"}}),
        ("playbook", {"path": "a/b", "version": "{{ v }}", "payload": {"a": "{{ x }}"}}),
        ("noop", {"kind": "noop", "name": "n", "input": {}, "spec": {}, "output": {}}),
    ],
)
def test_a_right_config_has_no_faults(kind: str, config: dict[str, object]) -> None:
    assert messages(kind, config) == []


@pytest.mark.parametrize(
    ("kind", "config", "pointer", "message"),
    [
        ("noop", {"x": 1}, "/x", "unknown field 'x' (known fields: result)"),
        ("noop", {"timeout": 3}, "/timeout", "unknown field 'timeout' (it belongs in 'spec': spec: {timeout: ...})"),
        (
            "python",
            {"code": "x", "zzz": 1},
            "/zzz",
            "unknown field 'zzz' (known fields: code, code_b64, script, libs, tables)",
        ),
        ("http", {"url": "x", "zzz": 1, "method": "FETCH"}, "/method", None),
        ("python", {"coode": "x"}, "/coode", "unknown field 'coode' (did you mean 'code'?)"),
        ("python", {}, "", "the field 'code' is required (or 'code_b64' or 'script'; only one of them)"),
        ("python", {"code_b64": "eCA9"}, "/code_b64", None),
        ("python", {"code_b64": "?"}, "/code_b64", "code_b64: not base64-encoded UTF-8 text"),
        ("python", {"code": "x ="}, "/code", "code: not valid Python: invalid syntax (line 1 of the code)"),
        ("python", {"code": TOO_LARGE}, "/code", f"code: {CodeTooLarge()}"),
        ("python", {"code": "x", "libs": {"a b": "json"}}, "/libs", "libs: 'a b' cannot be a name in Python code"),
        ("http", {}, "", "the field 'url' is required (or 'endpoint', not both)"),
        ("http", {"url": "x", "body": 1, "json": 1}, "", "only one body can be sent, not body and json"),
        (
            "http",
            {"url": "x", "timeout": {"conect": 1}},
            "/timeout/conect",
            "unknown field 'timeout.conect' (did you mean 'connect'?)",
        ),
        (
            "http",
            {"url": "x", "timeout": {"total": 864000}},
            "/timeout/total",
            "timeout.total: this must be at most 1 day",
        ),
        (
            "http",
            {"url": "x", "timeout": True},
            "/timeout",
            "timeout: this must be a number of seconds, not true or false",
        ),
        (
            "http",
            {"url": "x", "timeout": {"read": False}},
            "/timeout/read",
            "timeout.read: this must be a number of seconds, not true or false",
        ),
        ("http", {"url": "x", "timeout": 0}, "/timeout", "timeout: this must be more than 0"),
        ("http", {"url": "x", "timeout": 864000}, "/timeout", "timeout: this must be at most 1 day"),
        (
            "http",
            {"url": "x", "data": {"query": {}, "a": 1}},
            "/data/a",
            "unknown field 'data.a' (known fields: query, body)",
        ),
        (
            "http",
            {"url": "x", "auth": {"openai": {}}},
            "/auth/openai",
            "unknown field 'auth.openai' (known fields: credential, type, header, param)",
        ),
        (
            "http",
            {"url": "x", "auth": {}},
            "/auth/credential",
            "the field 'auth.credential' is required: name of the stored credential",
        ),
        ("http", {"url": "x", "data": {"a": 1}, "form": {}}, "", "only one body can be sent, not form and data"),
        (
            "postgres",
            {"command": "x"},
            "/auth",
            "the field 'auth' is required: name of a stored credential of type postgres",
        ),
        ("postgres", {"auth": "a", "command": "x", "query": "y"}, "", "give only one of command and query"),
        ("postgres", {"auth": "a", "table": "t"}, "", "'table' and 'rows' require each other"),
        ("noop", {"x": "{{ y }}"}, "/x", "unknown field 'x' (known fields: result)"),
        ("playbook", {"path": "p", "version": "last"}, "/version", None),
    ],
)
def test_a_wrong_config_says_what_and_where(
    kind: str, config: dict[str, object], pointer: str, message: str | None
) -> None:
    found = messages(kind, config)
    assert pointer in [place for place, _ in found]
    if message:
        assert (pointer, message) in found


@pytest.mark.parametrize(
    ("kind", "config", "pointer", "code", "message"),
    [
        (
            "postgres",
            {"auth": "a", "command": "x", "db_host": "h"},
            "/db_host",
            "playbook.unknown_field",
            "name a stored credential in 'auth'",
        ),
        (
            "postgres",
            {"auth": "a", "command": "x", "host": "{{ h }}"},
            "/host",
            "playbook.unknown_field",
            "name a stored credential in 'auth'",
        ),
        (
            "postgres",
            {"auth": "a", "command_b64": "eA=="},
            "/command_b64",
            "playbook.not_supported",
            "not supported yet",
        ),
        (
            "duckdb",
            {"command": "x", "auth": {"pg": "wh"}},
            "/auth",
            "playbook.not_supported",
            "attaching other databases",
        ),
        ("python", {"code": "x", "deps": {}}, "/deps", "playbook.not_supported", "not supported yet"),
    ],
)
def test_a_field_that_a_tool_refuses_is_one_fault_of_its_key(
    kind: str, config: dict[str, object], pointer: str, code: str, message: str
) -> None:
    (fault,) = registry.check(kind, config)
    assert (fault.pointer, fault.code, fault.of_key) == (pointer, code, True)
    assert message in fault.message


@pytest.mark.parametrize("kind", ["duckdb", "postgres", "python"])
@pytest.mark.parametrize(
    ("script", "pointer", "message"),
    [
        (
            {"uri": "s3://b/k", "source": {"type": "s3", "bucket": "eu"}},
            "/script/source/bucket",
            "unknown field 'script.source.bucket' (known fields: type, endpoint, auth, region, method, timeout)",
        ),
        ({"uri": "x", "source": "s3"}, "/script/source", "script.source: this should be an object"),
        ({"uri": 5}, "/script/uri", "script.uri: this should be a valid string"),
        (
            {},
            "/script/uri",
            "the field 'script.uri' is required: a path relative to the folder of the playbook's file, or else to the "
            "one in which it is registered; or a URL: https://..., s3://bucket/key, gs://bucket/key",
        ),
    ],
)
def test_a_script_of_sql_has_the_faults_of_a_script_only(
    kind: str, script: dict[str, object], pointer: str, message: str
) -> None:
    assert messages(kind, {"script": script, **({"auth": "a"} if kind == "postgres" else {})}) == [(pointer, message)]


def test_of_the_fields_of_a_call_each_one_that_is_refused_is_named() -> None:
    call = ToolCall("postgres", "t", {"auth": "a", "command": "x", "host": "h", "zzz": 1})
    with pytest.raises(ToolFailure, match=r"connection settings are not allowed in playbooks.*unknown field 'zzz'"):
        PostgresConfig.of(call)


def test_a_template_excuses_only_its_own_field() -> None:
    found = messages("http", {"url": "x", "timeout": "{{ t }}", "verify_ssl": "maybe"})
    assert [pointer for pointer, _ in found] == ["/verify_ssl"]
