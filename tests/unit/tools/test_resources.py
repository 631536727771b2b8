"""Documents of the catalog that are no playbooks: what is accepted, and what is said of the rest, with its place."""

from __future__ import annotations

import pytest

from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.layout.canonical import canonical
from noetl_serverless.tools.plans import lint
from noetl_serverless.tools.registry import resource_schema
from noetl_serverless.tools.resources import kind_of

TOOL = """apiVersion: noetl.io/v2
kind: Tool
metadata: {name: geocode, path: tools/geocode}
input:
  type: object
  properties:
    address: {type: string, minLength: 3}
    limit: {type: integer, default: 1}
  required: [address]
output: {type: object, required: [status]}
credentials:
  maps: {type: api_key, default: maps_key}
tool:
  kind: http
  url: "https://maps.example/{{ address }}"
  params: {n: "{{ limit }}"}
  auth: maps
  spec: {timeout: 5, policy: {rules: [{when: "{{ output.status == 'error' }}", then: {do: retry}}]}}
"""
MCP = """apiVersion: noetl.io/v2
kind: Mcp
metadata: {name: kubernetes, path: mcp/kubernetes}
spec:
  url: http://kubernetes-mcp.example:8080/mcp
  protocol: mcp/1.0
  tools: [namespaces_list, {name: pods_list, inputSchema: {type: object}}]
  lifecycle: {deploy: agents/kubernetes/deploy, discover: agents/kubernetes/discover}
  discovery: {tools_list_url: "http://kubernetes-mcp.example:8080/mcp/tools", refresh_via: agents/kubernetes/discover}
  runtime: {agent: agents/kubernetes/runtime}
  deployment: {namespace: mcp, replicas: 2}
"""
CREDENTIAL = """apiVersion: noetl.io/v2
kind: Credential
metadata: {name: warehouse}
type: postgres
fields: {host: {}, password: {description: of the role, required: true}}
kinds: [postgres]
"""


@pytest.mark.parametrize("text", [TOOL, MCP, CREDENTIAL])
def test_it_is_accepted_in_the_canonical_layout_too(text: str) -> None:
    assert lint(text) == []
    written = canonical(text)
    assert document_of(written).hash == document_of(text).hash
    assert canonical(written) == written


def test_a_tool_becomes_an_entry_with_its_schemas() -> None:
    entry = document_of(TOOL)
    assert (entry.kind, entry.path, entry.steps) == ("Tool", "tools/geocode", 0)
    assert entry.payload["input"]["required"] == ["address"]
    assert entry.payload["credentials"] == {"maps": {"type": "api_key", "default": "maps_key"}}


def test_its_hash_is_that_of_everything_in_it() -> None:
    changed = [
        TOOL.replace("minLength: 3", "minLength: 4"),
        TOOL.replace("[status]", "[state]"),
        TOOL + "# a comment\n",
    ]
    first = document_of(TOOL).hash
    assert [document_of(text).hash == first for text in changed] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "old", "new", "says", "line", "code"),
    [
        (TOOL, "{{ limit }}", "{{ workload.n }}", "'workload' is not declared", 16, "playbook.undefined_name"),
        (TOOL, "{{ limit }}", "{{ limits }}", "did you mean 'limit'?", 16, "playbook.undefined_name"),
        (TOOL, "{{ limit }}", "{{ keychain.a.b }}", "keychain", 16, "playbook.unknown_secret"),
        (
            TOOL,
            "auth: maps",
            "auth: map",
            "'credentials' has no 'map'; did you mean 'maps'?",
            17,
            "playbook.unknown_secret",
        ),
        (TOOL, "  auth: maps\n", "", "does not use the credential 'maps'", 12, "playbook.invalid_value"),
        (
            TOOL,
            "type: api_key",
            "type: postgres",
            "http reads no credentials of type 'postgres'",
            12,
            "playbook.invalid_value",
        ),
        (TOOL, "type: integer", "type: whole", "this must be one of string", 8, "playbook.schema"),
        (
            TOOL,
            "{type: string, minLength: 3}",
            '{$ref: "https://a.example/s"}',
            "is not a place in this schema",
            7,
            "playbook.schema",
        ),
        (TOOL, "  type: object\n", "  type: array\n", "the input of a tool is an object", 5, "playbook.invalid_value"),
        (TOOL, "address:", "output:", "'output' is reserved", 7, "playbook.reserved_name"),
        (TOOL, "  url:", "  ulr:", "did you mean 'url'?", 15, "playbook.unknown_field"),
        (TOOL, "kind: http", "kind: tool", "cannot call another one", 14, "playbook.not_supported"),
        (TOOL, "kind: http", "kind: mcp", "the tool kind 'mcp' is not supported yet", 14, "playbook.not_supported"),
        (TOOL, "do: retry", "do: continue, set: {ctx.a: 1}", "sets nothing", 18, "playbook.invalid_value"),
        (TOOL, "  params: {n", "  input: {n", "what its schema declares", 16, "playbook.invalid_value"),
        (TOOL, "output: {", "outputs: {", "did you mean 'output'?", 10, "playbook.unknown_key"),
        (TOOL, "tool:\n", "workload: {}\ntool:\n", "declare what it reads in 'input'", 13, "playbook.legacy"),
        (MCP, "url: http:", "url: ftp:", "does not match the pattern", 5, "playbook.invalid_value"),
        (MCP, "{type: object}", "{type: thing}", "this must be one of string", 7, "playbook.schema"),
        (
            MCP,
            "  protocol",
            "  auths: a\n  protocol",
            "unknown key 'auths'; did you mean 'auth'?",
            6,
            "playbook.unknown_key",
        ),
        (CREDENTIAL, "type: postgres", "data: {password: a}\ntype: postgres", "holds no secrets", 4, "playbook.legacy"),
        (CREDENTIAL, "{host: {}", "{hosts: {}", "did you mean 'host'?", 5, "playbook.invalid_value"),
        (
            CREDENTIAL,
            "[postgres]",
            "[postgers]",
            "unknown tool kind 'postgers'; did you mean",
            6,
            "playbook.unknown_kind",
        ),
    ],
)
def test_a_fault_has_its_place(text: str, old: str, new: str, says: str, line: int, code: str) -> None:
    faulty = text.replace(old, new, 1)
    assert faulty != text
    found = [(fault.line, fault.code, fault.message) for fault in lint(faulty)]
    assert any((line, code) == one[:2] and says in one[2] for one in found), found
    with pytest.raises(InvalidPlaybook):
        document_of(faulty)


def test_code_of_a_tool_reads_no_context() -> None:
    text = TOOL[: TOOL.index("output:")] + "tool: {kind: python, code: \"result = context['ctx'], address, limit\"}\n"
    assert [fault.code for fault in lint(text)] == ["playbook.undefined_name"]


def test_an_input_that_nothing_reads_is_a_warning() -> None:
    text = TOOL.replace('  params: {n: "{{ limit }}"}\n', "")
    assert [(fault.severity, fault.pointer) for fault in lint(text)] == [("warning", "/input/properties/limit")]


def test_other_texts_are_taken_for_playbooks() -> None:
    assert kind_of("kind: Tool\n: [") is None
    assert kind_of("kind: Playbook\nworkflow: [{step: a, desc: 'kind: Tool'}]") is None
    [message] = [fault.message for fault in lint(TOOL.replace("kind: Tool", "kind: Tol")) if fault.pointer == "/kind"]
    assert message == "this must be one of Playbook, Tool, Agent, Mcp, Credential; did you mean 'Tool'?"


@pytest.mark.parametrize(("kind", "text"), [("Tool", TOOL), ("Mcp", MCP), ("Credential", CREDENTIAL)])
def test_its_schema_accepts_it_and_refuses_an_unknown_key(kind: str, text: str) -> None:
    import jsonschema
    import yaml

    validator = jsonschema.Draft202012Validator(resource_schema(kind))
    document = yaml.safe_load(text)
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors({**document, "unknown": 1}))
    if kind == "Tool":
        assert list(validator.iter_errors({**document, "tool": {**document["tool"], "input": {"n": 1}}}))


def test_a_type_of_credential_that_no_tool_reads_is_a_warning() -> None:
    assert document_of(CREDENTIAL).warnings == ()
    [warning] = document_of(
        CREDENTIAL.replace("type: postgres", "type: postgre").replace("{host: {}", "{hots: {}")
    ).warnings
    assert (warning.code, warning.pointer, warning.line) == ("playbook.unfit_value", "/type", 4)
    assert warning.message.endswith("did you mean 'postgres'?")
