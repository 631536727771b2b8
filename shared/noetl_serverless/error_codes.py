"""Every error code, spelled `area.reason`, with its meaning.

`STEP`: `error.code` of a step, an item, an attempt or an execution, which rules and conditions read. `PROBLEM`: `code`
of a problem document of REST, GraphQL and the command line; its `type` is `urn:noetl:problem:<code>`. `FAULT`: `code`
of one of its `errors`, each with its place; for a fault of a request it is `request.` and pydantic's name of the error.

`python -m noetl_serverless.error_codes` prints them as the tables of playbooks/ERRORS.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

# spelled as in the original, whose playbooks use it
REFERENCE_NOT_AVAILABLE: Final = "REFERENCE_NOT_AVAILABLE"

STEP: Final[Mapping[str, str]] = {
    "assert.expects": "The input of a task lacks what its `assert` expects.",
    "assert.returns": "The result of a task lacks what its `assert` names.",
    "budget.exceeded": "The execution has used up its budget.",
    "child.cancelled": "The sub-playbook was cancelled.",
    "child.failed": "The sub-playbook failed; `cause` is its error.",
    "child.invalid": "The sub-playbook cannot be read, or cannot be started with this payload.",
    "child.no_result": "The sub-playbook ended without running the step whose result is needed.",
    "child.not_found": "The sub-playbook is not in the catalog.",
    "child.too_deep": "Sub-playbooks are nested too deeply.",
    "command.delivery_limit": "The command was delivered the maximum number of times without being completed.",
    "compensation.missing": "The step has no compensation in this version of the playbook.",
    "compensation.too_many": "More runs of steps, or larger results, would have to be kept to be undone than can be.",
    "credential.missing": "The credential does not exist or cannot be read.",
    "credential.unfit": "The tool cannot use a credential of this type.",
    "decision.too_large": "The decisions that follow from one event exceed the limit of one commit.",
    "dry_run.no_answer": "A dry run has no further answer for the call.",
    "duckdb.busy": "The database file is locked by another task.",
    "duckdb.config": "A field of the rendered configuration is not valid.",
    "duckdb.error": "DuckDB rejected the statement, or failed with another error.",
    "duckdb.files": "A file could not be read or written.",
    "duckdb.memory": "The query needs more memory than the worker has.",
    "duckdb.refused": "The statement is not allowed.",
    "duckdb.sql": "A placeholder or a value of the statement cannot be used: see the message.",
    "duckdb.timeout": "The query ran longer than its timeout.",
    "duckdb.too_many_rows": "The result has more rows than `max_rows`, or too many bytes.",
    "engine.undecidable": "The engine could not decide how to continue; the execution is in quarantine.",
    "execution.cancelled": "The execution was cancelled.",
    "execution.finalized": "The execution was forced to end.",
    "execution.parent_failed": "The execution that it is a part of failed, and what it had done was undone.",
    "execution.timeout": "The execution did not end within the time that it has.",
    "http.body": "The request body is not valid.",
    "http.config": "A field of the rendered configuration is not valid.",
    "http.connect": "The connection failed or was lost.",
    "http.content": "The response is not what `as` says.",
    "http.headers": "A request header is not valid.",
    "http.redirects": "There were too many redirects.",
    "http.refused": "Requests to this address are not allowed.",
    "http.status": "The server returned a status of 400 or above.",
    "http.timeout": "The server did not respond in time.",
    "http.tls": "The TLS connection failed, for example because of an invalid certificate.",
    "http.too_large": "The response exceeds the size limit, or the room that there is.",
    "http.url": "The URL is not valid.",
    "input.invalid": "The input does not fit the playbook's schema, or that of a task is not an object.",
    "keychain.denied": "The source of a keychain entry refused to give its value, or gave what cannot be used.",
    "keychain.unavailable": "The source of a keychain entry does not answer.",
    "loop.claim_failed": "The rows of a cursor could not be claimed.",
    "loop.claim_unknown": "Whether rows of a cursor were claimed is no longer known.",
    "loop.invalid": "The loop has too many items, or `max_in_flight` is not a positive integer.",
    "loop.item_failed": "An item of the loop failed.",
    "loop.not_iterable": "The loop's `in` is not a collection.",
    "loop.not_drained": "There are still rows to claim after `max_iterations` claims.",
    "loop.parked": "An item in a frame of several items started a sub-playbook or a wait.",
    "loop.too_large": "The results of a loop are too large for a worker to read at once.",
    "noop.config": "A field of the rendered configuration is not valid.",
    "outcome.refused": "The control plane refused the outcome that the worker reported.",
    "playbook.config": "A field of the rendered configuration is not valid.",
    "postgres.config": "A field of the rendered configuration is not valid.",
    "postgres.connection": "The connection failed or was lost.",
    "postgres.error": "The server rejected the statement; `pg.sqlstate` has the reason.",
    "postgres.internal": "The tool failed with another error.",
    "postgres.pool": "No connection was free within the time that `pool` allows.",
    "postgres.sign_in": "The server rejected the user or the password.",
    "postgres.sql": "A placeholder or a value of the statement cannot be used: see the message.",
    "postgres.timeout": "The statement ran longer than its timeout.",
    "postgres.tls": "The TLS connection failed.",
    "postgres.too_many_rows": "The result exceeds `max_rows` or `max_bytes`.",
    "python.config": "A field of the rendered configuration is not valid.",
    "python.exception": "The code raised an exception; `py` has the exception and the traceback.",
    "python.file": "A table that the code returned cannot be kept: there is no room, or it exceeds 8 GiB.",
    "python.import": "A module of `libs` cannot be imported; `py` has the exception and the traceback.",
    "python.input": "An input is no table although `main` declares it as one, or a table of the input cannot be read.",
    "python.killed": "The process that ran the code ended unexpectedly.",
    "python.memory": "The code exceeded the memory limit of its process.",
    "python.not_json": "The input cannot be passed to the process.",
    "python.timeout": "The code ran longer than its timeout.",
    "python.unavailable": "No process could be started to run the code.",
    REFERENCE_NOT_AVAILABLE: (
        "A result that is stored by reference cannot be had. `reason`: missing, denied, expired, changed, no_store or "
        "invalid."
    ),
    "result.invalid": "The result of the execution does not fit the playbook's schema.",
    "result.unchecked": "As a warning: the result is stored by reference, and was not compared with the schema.",
    "result_store.denied": "The result store refuses access.",
    "result_store.unavailable": "The result store is not available.",
    "routing.no_match": "No arc matched, and `no_next_is_error` is set.",
    "rule.endless": "The rules of a step jump in an endless cycle.",
    "rule.fail": "A rule failed the step.",
    "rule.no_target": "A rule jumps to a task that does not exist.",
    "rule.retry_exhausted": "A rule retried a task that had not failed until no attempt was left.",
    "step.failed": "The step failed without an error.",
    "step.stopped": "The step was under way when the execution began to fail, and does not go on.",
    "step.timeout": "The step did not end within the time that its `lifecycle` gives it.",
    "template.error": "A template cannot be rendered; `at` is its line.",
    "template.too_large": "Rendering a template would take too much time or memory; `at` is its line.",
    "test.no_answer": "A test has no answer for the call.",
    "test.stopped": "A test has stopped: it was wrong, or took too long.",
    "tool.failed": "The tool failed without giving a reason.",
    "tool.input_invalid": "The input of a tool of the catalog is not what its schema allows; `pointer` is the place.",
    "tool.internal": "The tool raised an exception that it does not handle.",
    "tool.output_invalid": "The result of a tool of the catalog is not what its schema allows; `pointer` is the place.",
    "tool.timeout": "The tool did not end within its timeout.",
    "tool.unavailable": "This worker does not have this kind of tool.",
    "turns.exceeded": "A step began more often than `max_turns` allows.",
    "value.invalid": "A value cannot be stored.",
    "value.too_large": "A value exceeds its size limit.",
    "wait.config": "A field of the rendered configuration is not valid.",
    "wait.rejected": "The approval was not given.",
    "wait.timeout": "The signal or the approval did not come in time.",
    "worker.internal": "Internal error of the worker.",
    "worker.malformed_command": "The command is incomplete.",
    "worker.no_loop": "A loop command refers to a step without a loop.",
    "worker.no_plan": "The worker cannot read the playbook.",
    "worker.no_step": "The step is not in the playbook.",
    "worker.time_budget": "The command needs more time than a worker function may run.",
}

PROBLEM: Final[Mapping[str, str]] = {
    "answer.too_large": "The response exceeds the size limit; request a smaller page.",
    "auth.forbidden": "The token's role does not allow this.",
    "auth.unauthenticated": "There is no valid token.",
    "callback.answered": "The wait that a callback URL is for has its answer.",
    "callback.expired": "A callback URL is no longer valid.",
    "callback.invalid": "The URL is no callback URL of this deployment.",
    "callback.over": "Nothing waits any more for the answer to a callback URL.",
    "cli.failed": "The command failed.",
    "cli.no_stack": "No stack is running on this data directory.",
    "cli.usage": "The command was used wrongly.",
    "control_plane.unavailable": "The gateway cannot reach the control plane.",
    "credential.sealed_elsewhere": "A stored secret cannot be decrypted with the configured keys.",
    "input.invalid": "The input does not fit the playbook's schema.",
    "loop.too_large": STEP["loop.too_large"],
    "playbook.invalid": "The playbook has faults.",
    "query.invalid": "The GraphQL query is not valid.",
    REFERENCE_NOT_AVAILABLE: STEP[REFERENCE_NOT_AVAILABLE],
    "request.invalid": "The request is not valid.",
    "request.method_not_allowed": "The path does not support this method.",
    "request.not_acceptable": "The result cannot be had in a form that Accept names; `available` lists those that can.",
    "request.range": "The requested part lies behind the end of the content.",
    "request.refused": "The server rejected the request before it was processed.",
    "request.too_large": "The body exceeds the size limit.",
    "request.too_slow": "The body has not come in time.",
    "request.unsupported_type": "The body is of a media type that is not accepted here.",
    "resource.conflict": "It conflicts with the current state, or the name is taken.",
    "resource.not_found": "There is no such thing.",
    "result_store.denied": STEP["result_store.denied"],
    "result_store.unavailable": STEP["result_store.unavailable"],
    "server.internal": "Internal error; see the log for details.",
    "server.unavailable": "Temporarily unavailable: try again.",
    "server.unsupported": "This deployment cannot do this.",
    "trigger.attempts": "The event of a trigger was attempted too often.",
    "trigger.gone": "The playbook no longer has the trigger.",
    "trigger.too_deep": "Too many triggers have led to one another.",
    "trigger.too_many": "Triggers have started too many executions in consequence of one end.",
    "webhook.refused": "The webhook is unknown, or its signature is not valid.",
    "worker.malformed_command": STEP["worker.malformed_command"],
}

FAULT: Final[Mapping[str, str]] = {
    "playbook.dead_arc": "The arc can never be taken.",
    "playbook.dead_rule": "The rule can never apply.",
    "playbook.duplicate_key": "The key occurs twice in one object.",
    "playbook.duplicate_name": "The name occurs twice.",
    "playbook.former_code": "A condition names a former spelling of an error code, which still matches.",
    "playbook.invalid_value": "The value is not allowed here.",
    "playbook.legacy": "The field belongs to an older version of the language.",
    "playbook.literal_secret": "A secret stands in the text of the playbook.",
    "playbook.missing_field": "A required field is missing.",
    "playbook.no_delay": "A retry has no delay.",
    "playbook.no_effect": "The key has no effect where it stands.",
    "playbook.not_awaited": "No step waits for the signal that a URL of the keychain sends.",
    "playbook.not_compensated": "Nothing undoes the step, while others are undone.",
    "playbook.not_rendered": "A template is used where none is rendered.",
    "playbook.not_run": "A template reads a step that cannot have run before it.",
    "playbook.not_supported": "The feature is not supported yet.",
    "playbook.one_answer": "The items of a loop that run at once share a callback URL, which has one answer.",
    "playbook.older_form": "An older form, which is accepted; `--strict` refuses it.",
    "playbook.python_syntax": "The Python code does not compile.",
    "playbook.reserved_name": "The name is reserved.",
    "playbook.schema": "A JSON Schema is not valid.",
    "playbook.script": "A script cannot be read, or is not the one that is meant.",
    "playbook.script_missing": "A script was not sent with the playbook.",
    "playbook.template": "The template does not compile.",
    "playbook.tool_input": "The input of a call of a tool of the catalog is not what the tool takes.",
    "playbook.tool_missing": "A tool of the catalog is not there, or is not known yet.",
    "playbook.too_large": "The document exceeds the limits of size or nesting.",
    "playbook.trigger_not_ready": "What a trigger needs is not there yet, so that it starts nothing.",
    "playbook.unfit_value": "A value does not fit the schema that is declared for it.",
    "playbook.undefined_name": "A template reads a name that nothing in the document defines at that place.",
    "playbook.unknown_event": "The event does not exist.",
    "playbook.unknown_field": "The tool does not have this field.",
    "playbook.unknown_key": "The key is not part of the language.",
    "playbook.unknown_kind": "The kind of tool does not exist.",
    "playbook.unknown_pool": "The deployment does not have this pool of workers.",
    "playbook.unknown_secret": "The keychain does not have this entry, or the entry not this field.",
    "playbook.unknown_step": "The playbook does not have this step.",
    "playbook.unknown_task": "The step does not have this task.",
    "playbook.unreachable": "No arc leads to the step.",
    "playbook.unused_name": "Nothing reads the key of the workload or of ctx.",
    "playbook.unused_secret": "No step uses the entry of the keychain.",
    "playbook.waits_for_itself": "A playbook whose executions are limited calls itself.",
    "playbook.wrong_pool": "The workers of the pool cannot run a tool of the step.",
    "playbook.yaml": "The text is not YAML.",
    "playbook.yaml_reading": "YAML 1.1 and YAML 1.2 read the value differently.",
    "value.invalid": STEP["value.invalid"],
}

ALL_CODES: Final = frozenset({*STEP, *PROBLEM, *FAULT})

# code -> its spelling up to release 0.1; digests keep that spelling, so that they do not change
_FORMER: Final[Mapping[str, str]] = {
    "auth.forbidden": "forbidden",
    "auth.unauthenticated": "unauthenticated",
    "cli.failed": "failed",
    "cli.no_stack": "no_stack",
    "cli.usage": "wrong_use",
    "command.delivery_limit": "delivery_limit",
    "control_plane.unavailable": "bad_gateway",
    "credential.sealed_elsewhere": "not_sealed_here",
    "execution.cancelled": "cancelled",
    "loop.too_large": "loop_too_large",
    "outcome.refused": "outcome_refused",
    "playbook.invalid": "invalid_playbook",
    "query.invalid": "invalid_query",
    "request.invalid": "invalid_request",
    "request.too_large": "too_large",
    "resource.conflict": "conflict",
    "resource.not_found": "not_found",
    "result_store.unavailable": "result_store",
    "rule.retry_exhausted": "retry_exhausted",
    "server.unavailable": "unavailable",
    "template.error": "template_error",
    "tool.failed": "failed",
    "tool.internal": "internal_error",
    "tool.timeout": "timeout",
    "tool.unavailable": "unavailable",
    "worker.internal": "internal_error",
    "worker.malformed_command": "malformed_command",
    "worker.no_loop": "no_loop",
    "worker.no_plan": "no_plan",
    "worker.no_step": "no_step",
    "worker.time_budget": "time_budget",
}
# former codes of what is now a case of another
_ABSORBED: Final[Mapping[str, str]] = {"set_too_large": "value.too_large"}


def former_code(code: str) -> str:
    """The former spelling of a code, or the code itself: two codes with one former spelling are one for a comparison
    of what two releases have written."""
    return _FORMER.get(code, code)


def spellings(code: str) -> frozenset[str]:
    """The code, and what other releases write for it: `template_error` and `template.error` each give both."""
    current = {one for one, former in _FORMER.items() if code in (one, former)}
    absorbed = {former for former, one in _ABSORBED.items() if one == code}
    return frozenset({code, *current, *map(former_code, current), *absorbed, _ABSORBED.get(code, code)})


NOTES: Final[Mapping[str, Sequence[str]]] = {
    "Errors of steps": ("The tools of other packages have codes of their own, and `<kind>.config`.", ""),
    "Faults of a playbook": (
        "The code of a fault in a request is `request.` and pydantic's name of the error: `request.extra_forbidden`.",
        "",
    ),
}


def tables() -> Iterator[str]:
    """The lines of playbooks/ERRORS.md below its heading."""
    for title, codes in (("Errors of steps", STEP), ("Problems", PROBLEM), ("Faults of a playbook", FAULT)):
        yield from ("", f"## {title}", "", *NOTES.get(title, ()), "| code | meaning |", "|---|---|")
        yield from (f"| `{code}` | {meaning} |" for code, meaning in sorted(codes.items(), key=_by_code))


def _by_code(item: tuple[str, str]) -> str:
    return item[0].lower()


if __name__ == "__main__":
    sys.stdout.write("\n".join(tables()).lstrip("\n") + "\n")
