"""In which order the page has the objects of the language, what it calls them, and where they stand in a playbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Object:
    """`name` begins the names of its keys on the page; `definition` is its name in the schema."""

    name: str
    definition: str
    place: str


# title of a group -> its objects
OBJECTS: Final[Mapping[str, tuple[Object, ...]]] = {
    "The playbook": (
        Object("playbook", "Playbook", "the whole document"),
        Object("metadata", "Metadata", "`metadata`"),
        Object("schemas", "Schemas", "`schemas`"),
        Object("workbook", "WorkbookTask", "`workbook`, each item"),
    ),
    "The executor": (
        Object("executor", "Executor", "`executor`"),
        Object("executor.requires", "Requires", "`executor.requires`"),
        Object("executor.spec", "ExecutorSpec", "`executor.spec`"),
        Object("budget", "Budget", "`executor.spec.budget`"),
        Object("executor.policy", "ExecutorPolicy", "`executor.spec.policy`"),
        Object("defaults", "Defaults", "`executor.spec.policy.defaults`"),
        Object("results", "ResultPolicy", "`executor.spec.policy.results`"),
        Object("limits", "LimitPolicy", "`executor.spec.policy.limits`"),
    ),
    "The keychain": (
        Object("secret_manager", "SecretManagerEntry", "`keychain`, an item with `kind: secret_manager`"),
        Object("oauth2", "OAuth2Entry", "`keychain`, an item with `kind: oauth2`"),
        Object("google_id_token", "GoogleIdTokenEntry", "`keychain`, an item with `kind: google_id_token`"),
        Object("google_access_token", "GoogleAccessTokenEntry", "`keychain`, an item with `kind: google_access_token`"),
        Object("bearer", "BearerEntry", "`keychain`, an item with `kind: bearer`"),
        Object("static", "StaticEntry", "`keychain`, an item with `kind: static`"),
        Object("credential", "CredentialEntry", "`keychain`, an item with `kind: credential`"),
        Object("callback", "CallbackEntry", "`keychain`, an item with `kind: callback`"),
    ),
    "Kinds of triggers": (
        Object("webhook", "WebhookTrigger", "`triggers`, an item with `kind: webhook`"),
        Object("object", "ObjectTrigger", "`triggers`, an item with `kind: object`"),
        Object("message", "MessageTrigger", "`triggers`, an item with `kind: message`"),
        Object("ended", "PlaybookTrigger", "`triggers`, an item with `kind: playbook`"),
    ),
    "Steps": (
        Object("step", "Step", "`workflow`, each item"),
        Object("step.spec", "StepSpec", "`spec` of a step"),
        Object("compensate", "Compensation", "`compensate` of a step"),
        Object("step.policy", "StepPolicy", "`spec.policy` of a step"),
        Object("lifecycle", "Lifecycle", "`spec.policy.lifecycle` of a step"),
        Object("concurrency", "Concurrency", "`spec.concurrency` of a step, and `executor.spec.concurrency`"),
        Object("rate", "Rate", "`spec.rate` of a step, and `executor.spec.rate`"),
        Object("failure", "Failure", "`spec.policy.failure` of a step, or of its loop"),
    ),
    "Admission": (
        Object("admit", "Admit", "`spec.policy.admit` of a step"),
        Object("admit.rule", "AdmitRule", "`rules` of `admit`, each item"),
        Object("admit.then", "Allow", "`then` of a rule of `admit`"),
        Object("admit.else", "AdmitElse", "`else` of the last rule of `admit`"),
    ),
    "Loops": (
        Object("loop", "Loop", "`loop` of a step"),
        Object("loop.spec", "LoopSpec", "`spec` of a loop"),
        Object("loop.policy", "LoopPolicy", "`spec.policy` of a loop"),
        Object("cursor", "Cursor", "`cursor` of a loop"),
        Object("cursor.options", "CursorOptions", "`options` of a cursor"),
        Object("frame", "FramePolicy", "`spec.frame` of a loop over a cursor"),
    ),
    "Routing": (
        Object("next", "Router", "`next` of a step"),
        Object("next.spec", "RouterSpec", "`spec` of `next`"),
        Object("arc", "Arc", "`arcs` of `next`, each item"),
    ),
    "Tools": (
        Object("tool", "Tool", "`tool` of a step or of a task of the workbook; in a step also a list of them"),
        Object("tool.spec", "TaskSpec", "`spec` of a tool"),
        Object("timeout", "HttpTimeout", "`timeout` in a `spec`, for tools of kind http"),
        Object("tool.policy", "TaskPolicy", "`spec.policy` of a tool"),
        Object("tool.assert", "Contract", "`assert` of a tool"),
    ),
    "Rules": (
        Object("rule", "Rule", "`spec.policy.rules` of a tool, each item"),
        Object("then", "Then", "`then` of a rule"),
        Object("else", "Else", "`else` of the last rule"),
    ),
    "Output": (
        Object("output", "Output", "`output` of a tool"),
        Object("store", "Store", "`store` of `output`"),
        Object("select", "Select", "`select` of `output`, each item"),
        Object("accumulate", "Accumulate", "`accumulate` of `output`"),
    ),
}
# parts of the configs of tools that several kinds have -> the one that the page describes
SAME: Final[Mapping[str, str]] = {
    "tool.postgres.Script": "tool.python.Script",
    "tool.duckdb.Script": "tool.python.Script",
    "tool.postgres.Source": "tool.python.Source",
    "tool.duckdb.Source": "tool.python.Source",
}
# parts of tools -> what the page calls them, if not as their place
NAMES: Final[Mapping[str, str]] = {"tool.python.Script": "script", "tool.python.Source": "script.source"}
# definitions that are no objects
TEXTS: Final = frozenset({"Duration", "Expression", "Template"})
