"""What the schema says about the parts and keys of the language that their models do not describe themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_INPUT = "Values by name, each a template or plain data"
_TIMEOUT = "Seconds; for http also {connect, read}"
_SET = "Values to set, by scope and name: ctx.total: '{{ ... }}'"
_WHEN = "Condition: one {{ expression }}, true or false"
_DESC = "What it is for; has no effect"

PARTS: Final[Mapping[str, str]] = {
    "AdmitElse": "What holds if no rule before it does",
    "AdmitRule": "`{when, then: {allow}}`, or `{else: {then: {allow}}}` as the last one",
    "Allow": "Whether the step runs",
    "Arc": "A way to a next step",
    "Defaults": "What steps and tools have where they say nothing else",
    "Else": "What holds if no rule before it does",
    "ExecutorPolicy": "Policies of the whole execution",
    "ExecutorSpec": "How executions of the playbook run",
    "Failure": "What the failure of an item means for its loop",
    "Loop": "Run the tools once for each item of a list",
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
        "on_success": "Whether to collect the results of runs that ended well",
        "on_error": "Whether to collect the results of runs that failed",
    },
    "Admit": {
        "mode": "exclusive: the first rule that holds decides",
        "rules": "Rules, in order; without a match it runs",
    },
    "AdmitElse": {"then": "The decision"},
    "AdmitRule": {"when": _WHEN, "then": "The decision", "else": "The decision if no rule before it holds"},
    "Allow": {"allow": "false: the step is skipped"},
    "Arc": {"step": "Name of the step that it leads to", "when": f"{_WHEN}; without it, always", "set": _SET},
    "Budget": {"prices": "Table of prices for max_cost_usd"},
    "Contract": {"expects": "Names that the input has to have", "returns": "Names that the result has to have"},
    "Cursor": {"options": "How many claims there are, at once and in all"},
    "Defaults": {"timeout": _TIMEOUT},
    "Else": {"then": "What the rule does"},
    "Executor": {
        "version": "Version of the runtime that the playbook is written for",
        "requires": "What the deployment must have",
        "spec": "How executions run",
    },
    "ExecutorPolicy": {
        "defaults": "What steps and tools have where they say nothing else",
        "results": "Where results go",
        "limits": "What tasks may return",
    },
    "ExecutorSpec": {
        "entry_step": "Name of the first step; by default, the first of the workflow",
        "final_step": "Name of a step that runs last, when all others have ended",
        "no_next_is_error": "Fail if no arc of a step matches",
        "budget": "What an execution may spend",
        "policy": "Policies of the whole execution",
    },
    "Failure": {"mode": "fail_fast: the first failed item ends the loop; best_effort: the others still run"},
    "HttpTimeout": {"connect": "Seconds to connect", "read": "Seconds between two reads"},
    "Loop": {
        "in": "The items: one {{ expression }} that gives a list, or a list",
        "iterator": "Name of the item in templates: iter.NAME",
        "spec": "How the items run",
    },
    "LoopSpec": {
        "mode": "sequential: one after the other; parallel: up to max_in_flight at once",
        "max_in_flight": "Items at once, for parallel: a number, or one {{ expression }}",
        "timeout": _TIMEOUT,
        "policy": "Policies of the loop",
    },
    "Metadata": {
        "name": "Title of the playbook",
        "path": "Path in the catalog, under which it is registered and started; by default, the name",
    },
    "Output": {"select": "Fields to keep readable", "accumulate": "Collect the results of all runs of the task"},
    "Playbook": {
        "apiVersion": "Version of the language",
        "kind": "Always Playbook",
        "metadata": "Name, path, and whatever describes the playbook",
        "executor": "How executions run",
        "keychain": "Secrets that tools read as keychain.NAME.FIELD, and where they come from",
        "workload": "Inputs with their defaults; a caller's payload is merged into them. Templates read workload.NAME",
        "workbook": "Tasks for steps to use by name",
        "workflow": "The steps; the first is where executions begin",
    },
    "Requires": {"tools": "Kinds of tools", "features": "Features of the language"},
    "Router": {"spec": "How arcs are chosen", "arcs": "The arcs, in order"},
    "RouterSpec": {
        "mode": "exclusive: the first arc that holds; inclusive: all that hold, at once",
        "on_no_match": "complete: the execution ends with a warning if no arc holds; quiet: without",
    },
    "Rule": {"when": _WHEN, "then": "What the rule does", "else": "What to do if no rule before it holds"},
    "Select": {"path": "Path in the result, such as $.rows[0].id", "as": "Name to read it by"},
    "Step": {
        "step": "Name of the step; templates read its result by it",
        "desc": _DESC,
        "input": f"{_INPUT}, for all tools of the step",
        "tool": "The tool to call, or a list of tools: a pipeline",
        "loop": "Run the tools once for each item",
        "set": f"{_SET}, when the step has ended well",
        "next": "What follows; without it, the branch ends here",
        "spec": "Timeout and policies of the step",
    },
    "StepPolicy": {
        "admit": "Whether the step runs at all",
        "lifecycle": "How long the step may take in all",
        "failure": "What a failed item means for its loop",
    },
    "StepSpec": {"timeout": _TIMEOUT, "policy": "Policies of the step"},
    "TaskPolicy": {"rules": "Rules, in order; the first that holds applies"},
    "TaskSpec": {"timeout": _TIMEOUT, "policy": "What follows from the output"},
    "Then": {
        "do": "continue, retry the call, jump to another task, break (end well) or fail",
        "attempts": "For retry: how many calls in all; 3 by default",
        "set": "Values to set, by scope and name: ctx.x, iter.x (in a loop) or step.x",
    },
    "Tool": {
        "kind": "Kind of tool",
        "name": "Label of the task in a pipeline; for kind workbook, the name of the task of the workbook",
        "input": f"{_INPUT}, over those of the step",
        "spec": "Timeout and rules of the tool",
        "output": "Where the result goes, and what stays readable of a large one",
        "assert": "Names that the input and the result have to have",
    },
    "WorkbookTask": {"name": "Name of the task", "desc": _DESC, "tool": "The tool to call"},
}
