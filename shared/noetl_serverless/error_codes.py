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
    "budget.exceeded": "The execution has spent what its budget allows.",
    "child.cancelled": "The sub-playbook was cancelled.",
    "child.failed": "The sub-playbook failed; `cause` is its error.",
    "child.invalid": "The sub-playbook cannot be started with this payload, or cannot be read.",
    "child.no_result": "The sub-playbook ended without the step whose result was asked for.",
    "child.not_found": "The catalog has no such sub-playbook.",
    "child.too_deep": "Sub-playbooks start each other through too many levels.",
    "command.delivery_limit": "Workers took the command as often as allowed and never ended it.",
    "credential.missing": "There is no credential of that name, or it cannot be read.",
    "credential.unfit": "The credential is not one that this tool can use.",
    "decision.too_large": "What follows from one event is more than one commit may hold.",
    "duckdb.busy": "Another task holds the database file.",
    "duckdb.config": "A field of the configuration is wrong once its templates are rendered.",
    "duckdb.error": "DuckDB failed in another way.",
    "duckdb.files": "A file could not be read or written.",
    "duckdb.memory": "The query needs more memory than the worker has.",
    "duckdb.refused": "The statement is not allowed here.",
    "duckdb.sql": "The statement is not valid.",
    "duckdb.timeout": "The query ran longer than its timeout.",
    "duckdb.too_many_rows": "The result has more rows or bytes than asked for.",
    "engine.undecidable": "What follows cannot be decided; the execution is in quarantine.",
    "execution.cancelled": "The execution was cancelled.",
    "http.body": "The body cannot be sent as it is.",
    "http.config": "A field of the configuration is wrong once its templates are rendered.",
    "http.connect": "No connection, or it broke.",
    "http.headers": "A header cannot be sent as it is.",
    "http.redirects": "The server redirects too often.",
    "http.refused": "The address is not one that may be called.",
    "http.status": "The server answered with a status of 400 or above.",
    "http.timeout": "The server did not answer in time.",
    "http.tls": "The connection is not secure: the certificate does not fit.",
    "http.too_large": "The answer is larger than a worker takes.",
    "http.url": "The URL is not valid.",
    "input.invalid": "The input of a task is not an object.",
    "loop.invalid": "The loop has too many items, or `max_in_flight` gives no positive integer.",
    "loop.item_failed": "An item of the loop failed.",
    "loop.not_iterable": "The loop's `in` is not a collection.",
    "loop.parked": "An item started a sub-playbook in a frame of several items.",
    "loop.too_large": "The results of a loop are more than a worker can read at once.",
    "noop.config": "A field of the configuration is wrong once its templates are rendered.",
    "outcome.refused": "The control plane refused what the worker reported.",
    "playbook.config": "A field of the configuration is wrong once its templates are rendered.",
    "postgres.config": "A field of the configuration is wrong once its templates are rendered.",
    "postgres.connection": "No connection, or it broke.",
    "postgres.error": "The server refused the statement; `pg.sqlstate` says why.",
    "postgres.internal": "The tool failed in another way.",
    "postgres.sign_in": "The server refused the user or the password.",
    "postgres.sql": "The statement cannot be sent as it is.",
    "postgres.timeout": "The statement ran longer than its timeout.",
    "postgres.tls": "The connection is not secure.",
    "postgres.too_many_rows": "The result has more rows or bytes than asked for.",
    "python.config": "A field of the configuration is wrong once its templates are rendered.",
    "python.exception": "The code raised; `py` has the exception and the traceback.",
    "python.killed": "The process that ran the code was ended.",
    "python.memory": "The code needs more memory than its process may have.",
    "python.not_json": "The input cannot be handed to the process.",
    "python.timeout": "The code ran longer than its timeout.",
    REFERENCE_NOT_AVAILABLE: "A result that is stored by reference is gone or is not what it was.",
    "result_store.unavailable": "The result store does not answer.",
    "routing.no_match": "No arc fits, and the step says that this fails.",
    "rule.endless": "The rules of a step jump without end.",
    "rule.fail": "A rule failed the step.",
    "rule.no_target": "A rule jumps to a task that does not exist.",
    "step.failed": "The step failed without an error of its own.",
    "template.error": "A template cannot be rendered; `at` is its line.",
    "tool.failed": "The tool failed without a reason.",
    "tool.internal": "The tool raised an exception that it does not handle.",
    "tool.timeout": "The tool did not end within its timeout.",
    "tool.unavailable": "This worker has no tool of that kind.",
    "turns.exceeded": "A cycle of steps turned more often than `max_turns`.",
    "value.invalid": "A value is not one that can be stored.",
    "value.too_large": "A value has more bytes than its place allows.",
    "worker.internal": "The worker failed in a way that is a fault of its own.",
    "worker.malformed_command": "The command came without what it needs.",
    "worker.no_loop": "A loop's command names a step that is no loop.",
    "worker.no_plan": "The worker cannot read the playbook.",
    "worker.no_step": "The playbook has no such step.",
    "worker.time_budget": "The command needs longer than a worker function may run.",
}

PROBLEM: Final[Mapping[str, str]] = {
    "answer.too_large": "The answer would be larger than allowed: ask for a smaller page.",
    "auth.forbidden": "The token is valid, and not allowed to do this.",
    "auth.unauthenticated": "There is no valid token.",
    "cli.failed": "The command failed.",
    "cli.no_stack": "No stack runs here.",
    "cli.usage": "The command was used wrongly.",
    "control_plane.unavailable": "The gateway gets no answer from the control plane.",
    "credential.sealed_elsewhere": "A stored secret cannot be opened with the keys that are here.",
    "loop.too_large": STEP["loop.too_large"],
    "playbook.invalid": "The playbook has faults.",
    "query.invalid": "The GraphQL query is not valid.",
    REFERENCE_NOT_AVAILABLE: STEP[REFERENCE_NOT_AVAILABLE],
    "request.invalid": "The request is not valid.",
    "request.method_not_allowed": "The path does not know this method.",
    "request.refused": "The server refused the request before it was looked at.",
    "request.too_large": "The body is larger than allowed.",
    "resource.conflict": "The state has changed, or the name is taken.",
    "resource.not_found": "There is no such thing.",
    "result_store.unavailable": STEP["result_store.unavailable"],
    "server.internal": "A fault of ours; the log has more.",
    "server.unavailable": "Temporarily unavailable: try again.",
    "worker.malformed_command": STEP["worker.malformed_command"],
}

FAULT: Final[Mapping[str, str]] = {
    "playbook.dead_arc": "The arc can never be taken.",
    "playbook.duplicate_key": "The key occurs twice in one object.",
    "playbook.duplicate_name": "The name occurs twice.",
    "playbook.invalid_value": "The value is not one that may stand here.",
    "playbook.legacy": "The field is of an older form of the language.",
    "playbook.missing_field": "A required field is missing.",
    "playbook.no_delay": "A retry has no delay.",
    "playbook.not_rendered": "A template stands where none is rendered.",
    "playbook.not_supported": "The feature is known and not supported yet.",
    "playbook.python_syntax": "The Python code does not compile.",
    "playbook.reserved_name": "The name is one of the engine's own.",
    "playbook.template": "The template does not compile.",
    "playbook.too_large": "The document is larger or deeper than allowed.",
    "playbook.unknown_event": "There is no event of that name.",
    "playbook.unknown_field": "The tool has no such field.",
    "playbook.unknown_key": "The language has no such key.",
    "playbook.unknown_kind": "There is no tool of that kind.",
    "playbook.unknown_step": "The playbook has no step of that name.",
    "playbook.unknown_task": "The step has no task of that name.",
    "playbook.unreachable": "No arc leads to the step.",
    "playbook.yaml": "The text is not YAML.",
    "value.invalid": STEP["value.invalid"],
}

# codes that earlier releases wrote into logs
_FORMER: Final[Mapping[str, str]] = {
    "cancelled": "execution.cancelled",
    "delivery_limit": "command.delivery_limit",
    "failed": "tool.failed",
    "internal_error": "worker.internal",
    "loop_too_large": "loop.too_large",
    "malformed_command": "worker.malformed_command",
    "no_loop": "worker.no_loop",
    "no_plan": "worker.no_plan",
    "no_step": "worker.no_step",
    "outcome_refused": "outcome.refused",
    "result_store": "result_store.unavailable",
    "template_error": "template.error",
    "time_budget": "worker.time_budget",
    "timeout": "tool.timeout",
    "unavailable": "server.unavailable",
}


def current_code(code: str) -> str:
    """The current spelling of a code that an earlier release may have written."""
    return _FORMER.get(code, code)


NOTES: Final[Mapping[str, Sequence[str]]] = {
    "Errors of steps": ("The tools of another package have codes of their own, and `<kind>.config`.", ""),
    "Faults of a playbook": (
        "A fault of a request has `request.` and the name that pydantic gives the error, as `request.extra_forbidden`.",
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
