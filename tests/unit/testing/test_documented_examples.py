"""The examples of playbooks/README.md are as the language has it; waits and compensation do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from noetl_serverless.testing.playbooks import run_playbook
from noetl_serverless.tools.plans import lint
from noetl_serverless.tools.port import ToolCall

PAGE = (Path(__file__).parents[3] / "playbooks" / "README.md").read_text()
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"
# what the example leaves to its reader
LEFT_OUT = ("nothing reads ", "the workload has no ", "to use it without a stack", "only the caller can give it")


def examples() -> list[tuple[str, str]]:
    """The title of its chapter, and the document, for each document, list of steps and part of a playbook."""
    found = []
    for chapter in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        title, _, text = chapter.partition("\n")
        blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.S | re.M)
        blocks += map(dedent, re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M))
        for block in (block.strip("\n") + "\n" for block in blocks):
            # commands of the shell stand beside some of them
            body = re.split(r"^noetls ", block, flags=re.M)[0]
            if body.startswith("apiVersion:"):
                found.append((title, body))
            elif body.startswith("- step:"):
                found.append((title, f"{HEAD}workflow:\n{indent(body + missing(body), '  ')}"))
            elif re.match(r"(executor|workload|schemas|keychain|triggers|workflow):", body):
                steps = "" if "workflow:" in body else "workflow: [{step: a, tool: {kind: noop}}]\n"
                found.append((title, HEAD + body + steps))
    return found


def missing(body: str) -> str:
    """The steps that an example leads to and does not show."""
    shown = set(re.findall(r"- step: (\w+)", body))
    named = dict.fromkeys(re.findall(r"{step: (\w+)", body))
    return "".join(f"- {{step: {name}, tool: {{kind: noop}}}}\n" for name in named if name not in shown)


EXAMPLES = examples()


def example(title: str) -> str:
    return next(text for chapter, text in EXAMPLES if chapter == title)


def test_the_chapters_of_the_language_have_examples() -> None:
    assert {title for title, _ in EXAMPLES} >= {
        *("Tools of the catalog", "The catalog", "Pools of workers", "Limits of the whole deployment", "Schedules"),
        *("Waits, signals and approvals", "Compensation", "Keychain", "Triggers", "Input and result"),
    }


@pytest.mark.parametrize(("title", "text"), EXAMPLES, ids=[f"{title}-{n}" for n, (title, _) in enumerate(EXAMPLES)])
def test_an_example_has_neither_errors_nor_warnings(title: str, text: str) -> None:
    assert [str(fault) for fault in lint(text) if not any(words in fault.message for words in LEFT_OUT)] == []


@pytest.mark.parametrize(("decision", "follows"), [({"approved": True}, "ship"), (None, "cancel_order")])
async def test_an_order_is_shipped_if_it_is_approved_and_else_cancelled(decision: Any, follows: str) -> None:
    text = example("Waits, signals and approvals")
    # without an answer, the wait ends by its time
    run = await run_playbook(text, tools={"wait": lambda call: decision} if decision else None)
    assert run.outcomes[follows]["status"] == "ok"
    assert (run.status, run.waited) == ("completed", 0 if decision else 2 * 86400)


async def test_a_charge_is_undone_by_the_id_that_it_was_given() -> None:
    calls: list[tuple[Any, Any]] = []

    def call(call: ToolCall) -> Any:
        calls.append((call.config.get("method"), call.config["url"]))
        if call.name == "ship":
            raise ValueError("no carrier")
        return {"data": {"id": 7}, "status_code": 201}

    ship = "    next: {arcs: [{step: ship}]}\n  - {step: ship, tool: {kind: http, url: 'http://ship'}}\n"
    run = await run_playbook(example("Compensation") + ship, {"bank": "http://bank"}, tools={"http": call})
    assert run.status == "failed"
    assert [*calls[:1], *calls[2:]] == [("POST", "http://bank/charges"), ("DELETE", "http://bank/charges/7")]
