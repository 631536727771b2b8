"""A command's name, as a key and in logs."""

from __future__ import annotations

from ...protocol import CommandKey

Key = tuple[str, str]


def key_of(named: CommandKey) -> Key:
    return named.execution_id, named.command_id


def names_of(named: CommandKey) -> dict[str, str]:
    return {"execution_id": named.execution_id, "command_id": named.command_id}
