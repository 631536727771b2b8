"""What the schema says about the parts and keys of the language that their models do not describe themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .grammar import FEATURES

_INPUT = "Values by name. Texts in them may be templates"
_TIMEOUT = (
    "How long one call of a tool may take, in seconds. Of the timeouts of executor.spec.policy.defaults, the step, its "
    "loop and the tool, the last one counts. Of a sub-playbook: how long it may take as a whole. {connect, read}: for "
    "http only"
)
_SET = "Values to keep, by ctx.NAME; each may be a template. They are set together, after all have been rendered"
_WHEN = "Condition: one {{ expression }}, or true or false"
_DESC = "What it is for; it has no effect"
_DECISION = "{allow: true} runs the step, {allow: false} skips it"

PARTS: Final[Mapping[str, str]] = {
    "AdmitElse": "What holds if no rule before it does",
    "AdmitRule": "`{when, then: {allow}}`, or `{else: {then: {allow}}}` as the last one",
    "Allow": "Whether the step runs",
    "Arc": "A way to a next step",
    "Defaults": "What steps and tools have where they say nothing else",
    "Else": "What is done if no rule before it holds",
    "Compensation": "How to undo a step",
    "ExecutorPolicy": "Policies of the whole execution",
    "ExecutorSpec": "How executions of the playbook run",
    "Failure": "What the failure of an item means for its loop",
    "Loop": "Runs the tools of the step once for each item of a list, or for each row that a cursor claims",
    "LimitPolicy": "What tasks may return",
    "LoopPolicy": "Policies of the loop",
    "LoopSpec": "How the items of the loop run",
    "Playbook": "A NoETL playbook",
    "Requires": "What the deployment must have for the playbook to be registered",
    "ResultPolicy": "Where results go",
    "Router": "The arcs that lead on from a step, and how they are chosen",
    "RouterSpec": "How arcs are chosen",
    "Select": "One field of a result",
    "Step": "A node of the workflow: its tools, and the arcs to what follows",
    "StepPolicy": "Policies of the step",
    "StepSpec": "How the step runs",
    "TaskPolicy": "What follows from the output of a tool",
    "TaskSpec": "How the tool runs",
}

KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "Accumulate": {
        "enabled": "false: nothing is collected",
        "on_success": "Whether the results of calls that succeeded are collected",
        "on_error": "Whether the results of calls that failed are collected",
    },
    "Admit": {
        "mode": "exclusive: the first rule that holds decides",
        "rules": "Rules, in order. If none holds, the step runs",
    },
    "AdmitElse": {"then": _DECISION},
    "AdmitRule": {
        "when": f"{_WHEN}. Required, except beside else",
        "then": f"{_DECISION}. Required, except beside else",
        "else": "The decision if no rule before it holds. Only in the last rule, alone",
    },
    "Allow": {"allow": "true: the step runs. false: it is skipped, which is the event step.skipped"},
    "Arc": {
        "step": "Name of the step that it leads to; it may lead back",
        "when": (
            f"{_WHEN}. Without it, it always holds. After a failure or a skip, only arcs count whose condition reads "
            "event, error, or one of output.status, error, http, pg and py"
        ),
        "set": f"{_SET}. This happens if the arc is taken, after the set of the step",
    },
    "Budget": {"prices": "Table of prices by which max_cost_usd is counted"},
    "Concurrency": {
        "key": (
            "What is counted together, in all playbooks that name the same key; each keeps its own limit. A text of at "
            "most 200 characters, or a template, of a step over workload, ctx and earlier steps, of a playbook over "
            "workload. Default: the path of the playbook, and of a step also its name"
        ),
        "limit": "How many at most, from 1 to 10,000",
    },
    "Contract": {
        "expects": "Names that the input has to have, that of the step included; otherwise the call fails with "
        "assert.expects before it is made",
        "returns": "Names that the result has to have; otherwise the call fails with assert.returns",
    },
    "Cursor": {"options": "How many claims there are, at once and in all"},
    "Defaults": {"timeout": _TIMEOUT},
    "Else": {"then": "What the rule does"},
    "Executor": {
        "version": "Version of the runtime that the playbook is written for; it has no effect",
        "requires": "What the deployment must have, or else it refuses to register the playbook",
        "spec": "How executions run",
    },
    "ExecutorPolicy": {
        "defaults": "What steps and tools have where they say nothing else",
        "results": "Where results go",
        "limits": "What tasks may return",
    },
    "ExecutorSpec": {
        "entry_step": "Name of the step where executions begin. Default: the first of the workflow",
        "final_step": "Name of a step that runs when all others have ended, unless the execution has failed or the "
        "step has run already",
        "no_next_is_error": "true: the execution fails with routing.no_match if a step with arcs has ended well and "
        "no arc of it matches",
        "budget": "What an execution may spend",
        "policy": "Policies of the whole execution",
    },
    "Failure": {
        "mode": (
            "fail_fast: after an item has failed, no other is issued, and the step fails; of a parallel loop, those "
            "that are queued or running by then, up to max_in_flight, still run. best_effort: all items run, and the "
            "step succeeds; it requires a loop"
        )
    },
    "HttpTimeout": {"connect": "Seconds to connect", "read": "Seconds of each wait for data"},
    "Loop": {
        "in": (
            "The items: a list, or one {{ expression }} that gives one. Null gives no items, an object is one item, "
            "and anything else fails the step with loop.not_iterable. Required, unless there is a cursor"
        ),
        "iterator": "Name of the item in templates: NAME, or iter.NAME. It must differ from the names of steps",
        "spec": "How the items run",
    },
    "LoopSpec": {
        "mode": (
            "sequential: one item after the other. parallel: up to max_in_flight items at once. cursor: the rows that "
            "`cursor` claims, in up to max_in_flight frames at once"
        ),
        "timeout": _TIMEOUT,
        "policy": "Policies of the loop",
    },
    "Metadata": {
        "name": "Name of the playbook",
        "path": "Path in the catalog, under which it is registered and started. Default: the name",
    },
    "Output": {
        "store": "Whether the result goes by reference",
        "select": "Fields of the result that stay readable everywhere when it is stored by reference. Not in a loop",
        "accumulate": "Collect the results of all runs of the task in one run of its step",
    },
    "Playbook": {
        "apiVersion": "Version of the language; both mean the same",
        "kind": "Playbook, or Agent for a playbook that is found among the agents",
        "metadata": "Name, path, and whatever else describes the playbook",
        "executor": "How executions run",
        "keychain": "Secrets that tools read as keychain.NAME.FIELD, and where they come from",
        "triggers": "Events that start an execution: webhooks, objects, messages, ends of other playbooks",
        "workload": (
            "Inputs with their defaults, as plain data: templates in it are not rendered. The payload of a start is "
            "merged into it. Templates read it as workload.NAME"
        ),
        "schemas": "What the workload and the result have to look like",
        "workbook": "Tasks that steps use by name, with kind: workbook",
        "workflow": "The steps. Executions begin with the first one, unless executor.spec.entry_step names another",
    },
    "Rate": {"key": "As that of concurrency", "limit": "How many at most, from 1 to 10,000"},
    "Requires": {
        "tools": "Kinds of tools that have to be there",
        "features": f"Features of the language: {', '.join(sorted(FEATURES))}",
    },
    "Router": {"spec": "How arcs are chosen", "arcs": "The arcs, in order"},
    "RouterSpec": {
        "mode": "exclusive: the first arc that holds is taken. inclusive: all that hold, at once",
        "on_no_match": (
            "Where no arc holds, the branch ends. Without this key, the execution then ends with the warning "
            "routing.no_match. complete: without a warning. quiet: without a warning, and steps that are no longer "
            "reached are not reported as skipped"
        ),
    },
    "Rule": {
        "when": f"{_WHEN}. It reads `output`, what the call gave. Required, except beside else",
        "then": "What the rule does. Required, except beside else",
        "else": "What is done if no rule before it holds. Only in the last rule, alone",
    },
    "Select": {"path": "Path in the result, such as $.rows[0].id", "as": "Name to read it by"},
    "Step": {
        "step": "Name of the step, which no other has; templates read its result by it",
        "desc": _DESC,
        "pool": (
            "Name of the pool whose workers run the step: its tools, and of a loop also the reading of its items. The "
            "deployment must have it, and it must have what the tools need. Default: the pool of the kinds of its tools"
        ),
        "input": (
            f"{_INPUT}. They are for all tools of the step; those of a tool take precedence. Templates of the tools' "
            "configuration, timeout and input read them by name, before anything else of that name"
        ),
        "tool": "The tool to call, or a list of tools, which are called in order. Without it, the step does nothing",
        "loop": "Run the tools once for each item",
        "set": f"{_SET}. This happens when the step has ended well, before its arcs are chosen",
        "next": "What follows; without it, the branch ends here",
        "spec": "Timeout and policies of the step",
    },
    "Compensation": {
        "input": f"{_INPUT}; they may read the result of the run that is undone, as STEP.field",
        "tool": "The tool to call, or a list of tools, which are called in order",
        "loop": "Run the tools once for each item",
        "spec": "Timeout and policies of the compensation",
    },
    "StepPolicy": {
        "admit": "Whether the step runs at all",
        "lifecycle": "How long one run of the step may take in all",
        "failure": "What the failure of an item means for the loop of the step",
    },
    "StepSpec": {"timeout": _TIMEOUT, "policy": "Policies of the step"},
    "TaskPolicy": {
        "rules": (
            "Rules, in order, after each call; the first that holds applies. If none does, a call that succeeded "
            "continues with the next task, and one that failed fails the step"
        )
    },
    "TaskSpec": {"timeout": _TIMEOUT, "policy": "What follows from the output"},
    "Then": {
        "do": (
            "continue: with the next task. retry: call it again. jump: continue with the task that `to` names. break: "
            "end the step well. fail: fail the step"
        ),
        "set": (
            "Values to keep, before what `do` says: ctx.NAME for the execution, step.NAME for this run of the step, "
            "iter.NAME for this item of a loop, or for this run of a step that is none. Each may be a template"
        ),
    },
    "Tool": {
        "kind": "Kind of tool, which decides what further keys it takes",
        "name": (
            "Name of the task: others read its result by it, and rules jump to it. Default: in a list task_1, task_2, "
            "..., else the name of the step. For kind workbook: the name of the task of the workbook, required"
        ),
        "input": (
            f"{_INPUT}. They take precedence over those of the step. Templates of its configuration and timeout read "
            "them by name, before anything else of that name"
        ),
        "spec": "Timeout and rules of the tool",
        "output": "Where the result goes, and what stays readable of a large one",
        "assert": "Names that the input and the result have to have",
    },
    "WorkbookTask": {
        "name": "Name of the task, which no other has",
        "desc": _DESC,
        "tool": "The tool to call, of any kind but workbook",
    },
}
