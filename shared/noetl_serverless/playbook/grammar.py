"""Names of the language: former keys with a hint what to write instead, keys to come, and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

API_VERSION: Final = "noetl.io/v2"
API_VERSIONS: Final = (API_VERSION, "noetl.io/v10")

# the kinds of documents that the catalog holds, and those of them that can be started
RESOURCES: Final = ("Playbook", "Tool", "Agent", "Mcp", "Credential")
EXECUTABLE: Final = frozenset({"Playbook", "Agent"})

# tools whose calls give the worker back until something else has happened
PARKING_KINDS: Final = frozenset({"playbook", "wait"})
BUILTIN_KINDS: Final = frozenset(
    {"noop", "python", "http", "postgres", "duckdb", "playbook", "workbook", "wait", "tool"}
)
# a call of a tool of the catalog
CATALOG_TOOL: Final = "tool"
# kinds whose tasks the compiler replaces by what they name, so that no tool runs them
RESOLVED_KINDS: Final = frozenset({"workbook", "tool"})
LATER_KINDS: Final = frozenset(
    {
        "agent",
        "artifact",
        "container",
        "ducklake",
        "gateway",
        "gcs",
        "iterator",
        "mcp",
        "nats",
        "playbooks",
        "provider",
        "result_fetch",
        "rhai",
        "script",
        "secrets",
        "shell",
        "snowflake",
        "snowflake_transfer",
        "subscription",
        "task_sequence",
        "transfer",
        "wasm",
    }
)
# what a tool of these kinds is given is written to the log
LOGGED_KINDS: Final = PARKING_KINDS
# keys of a tool that name credentials, which may be entries of the keychain
AUTH_FIELDS: Final = frozenset({"auth", "credential", "credentials"})
SQL_KINDS: Final = frozenset({"postgres", "duckdb"})
SQL_FIELDS: Final = frozenset({"command", "commands", "query", "script"})
# keys of a tool in which no template is rendered
PLAIN_CONFIG: Final[Mapping[str, frozenset[str]]] = {"python": frozenset({"code", "code_b64", "libs", "script"})}
REFUSED_CONFIG: Final[Mapping[str, Mapping[str, str]]] = {
    "python": {
        "auth": "code is given no credential; pass it what it needs in 'input', "
        'as in input: {token: "{{ keychain.NAME.token }}"}'
    }
}
LATER_CONFIG: Final[Mapping[str, frozenset[str]]] = {"python": frozenset({"deps"})}

# what executor.requires.features may name
FEATURES: Final = frozenset(
    {
        *("routing", "joins", "loops", "pipelines", "retry", "workbook"),
        *("sub_playbooks", "result_refs", "budgets", "keychain", "schemas", "triggers"),
    }
)

# the price tables of this release; the default never changes, so that an old playbook keeps its meaning
PRICES: Final = ("aws-2025-06", "gcp-2025-06")
DEFAULT_PRICES: Final = "aws-2025-06"

EVENT_NAMES: Final = ("call.done", "call.error", "loop.done", "loop.failed", "step.done", "step.failed", "step.skipped")
PREVIOUS: Final = frozenset({"previous", "prev", "_previous", "@previous"})

ROOT_LEGACY: Final[Mapping[str, str]] = {
    "vars": "put constants into 'workload', and set variables with set: {vars.name: ...}",
    "steps": "the list of steps is called 'workflow'",
    "path": "the path belongs in 'metadata.path'",
    "name": "the name belongs in 'metadata.name'",
    "spec": "settings of the execution belong in 'executor.spec', values that templates read in 'workload'",
    "tracing": "traces of executions are set up for a deployment, not in a playbook",
}
STEP_LEGACY: Final[Mapping[str, str]] = {
    "when": "put the condition on the arc that leads here (next.arcs[].when), or into spec.policy.admit",
    "case": "use 'next' with arcs: next: {arcs: [{step: ..., when: ...}]}",
    "type": "use tool: {kind: ...}",
    "args": "use 'input'",
    "with": "use 'input'",
    "result": "use 'set' to keep what later steps need",
    "outcome": "use spec.policy.rules of the tool",
    "set_ctx": "use set: {ctx.name: ...}",
    "set_iter": "use set: {iter.name: ...} in a rule of the tool",
    "vars": "use set: {vars.name: ...}, or set: {ctx.name: ...}",
    "save": "add a tool of kind postgres or duckdb that writes the data",
    "sink": "add a tool of kind postgres or duckdb that writes the data",
    "retry": "use a rule of the tool: spec.policy.rules with do: retry",
    "iterator": "use loop: {in: ..., iterator: ...}",
    "then": "use 'next' with arcs",
    "else": "use 'next' with arcs",
    "name": "the step's name is the value of 'step'",
    "output": "'output' belongs to the tool",
    "kind": "use tool: {kind: ...}",
    "depends_on": "put an arc to this step at each step that it follows: next: {arcs: [{step: ...}]}",
    "needs": "put an arc to this step at each step that it follows: next: {arcs: [{step: ...}]}",
    "timeout": "it belongs in 'spec': spec: {timeout: ...}",
}
TOOL_LEGACY: Final[Mapping[str, str]] = {
    "eval": "use spec.policy.rules",
    "expr": "use spec.policy.rules",
    "case": "use spec.policy.rules",
    "when": "use spec.policy.rules of the preceding task, or an arc",
    "args": "use 'input'",
    "with": "use 'input'",
    "retry": "use spec.policy.rules with do: retry",
    "save": "add a tool of kind postgres or duckdb that writes the data",
    "sink": "add a tool of kind postgres or duckdb that writes the data",
    "set": "put 'set' next to 'tool', or into a rule's 'then'",
    "next": "put 'next' next to 'tool'",
    "loop": "put 'loop' next to 'tool'",
    "outcome": "use spec.policy.rules",
    "policy": "it belongs in 'spec': spec: {policy: {rules: [...]}}",
    "rules": "they belong in spec.policy: spec: {policy: {rules: [...]}}",
    "type": "use 'kind'",
}
ARC_LEGACY: Final[Mapping[str, str]] = {
    "args": "use set: {ctx.name: ...}",
    "input": "use set: {ctx.name: ...}",
    "then": "use 'step' for the target",
    "condition": "use 'when'",
}
RULE_LEGACY: Final[Mapping[str, str]] = {"do": "it belongs in 'then': then: {do: ...}"}
SPEC_LEGACY: Final[Mapping[str, str]] = {
    "next_mode": "use next: {spec: {mode: exclusive|inclusive}}",
    "rules": "they belong in 'policy'",
    "retry": "use policy.rules with do: retry",
}
STEP_POLICY_LEGACY: Final[Mapping[str, str]] = {
    "rules": "they belong in the tool: tool: {spec: {policy: {rules: [...]}}}"
}
OUTPUT_LATER: Final = frozenset({"output_select", "as"})
STORE_LATER: Final = frozenset({"driver", "bucket", "prefix", "credential"})
