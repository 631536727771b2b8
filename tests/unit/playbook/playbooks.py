"""Texts to parse."""

from __future__ import annotations

from textwrap import dedent

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\n"


def playbook(text: str) -> str:
    """`text` with the first three lines every playbook needs; its own first line is line 4."""
    return HEAD + dedent(text).lstrip("\n")


def step(text: str) -> str:
    """A playbook of the one step in `text`, whose own first line is line 5."""
    body = dedent(text).strip("\n").splitlines()
    return HEAD + "workflow:\n" + "".join(("  - " if i == 0 else "    ") + line + "\n" for i, line in enumerate(body))


def tool(text: str) -> str:
    """A playbook of one step with the tool in `text`, whose own first line is line 7."""
    return step("step: a\ntool:\n" + "".join(f"  {line}\n" for line in dedent(text).strip("\n").splitlines()))
