"""Older forms of the language with those of today, and what is refused with what to write instead."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import yaml
from tests.conformance.case import Case, cases

from noetl_serverless.errors import InvalidPlaybook, pointer_keys
from noetl_serverless.playbook import grammar, keychain, model
from noetl_serverless.playbook.document import plain_data
from noetl_serverless.playbook.layout.canonical import canonical
from noetl_serverless.playbook.load import read_playbook
from noetl_serverless.playbook.part import Part
from noetl_serverless.tools.plans import load_checked

from .fragments import cut

_WIDTH: Final = 120
LATER: Final = "not supported yet"


@dataclass(frozen=True)
class OlderForm:
    """What a file of conformance/older shows: its steps that have an older form, as they are and as of today."""

    case: Case
    title: str
    # what the file says of itself
    note: str
    messages: list[str]
    older: str
    today: str


def older_forms() -> Iterator[OlderForm]:
    for case in cases():
        if case.name.startswith("older/"):
            yield _older_form(case)


def _older_form(case: Case) -> OlderForm:
    document = read_playbook(case.playbook)
    # the pointer of each step, task of the workbook or root key that has an older form, and where that is today
    parts = list(dict.fromkeys(tuple(pointer_keys(fault.pointer)[:2]) for fault in document.warnings))
    today = yaml.dump(plain_data(document.root), Dumper=_Dumper, default_flow_style=None, sort_keys=False, width=_WIDTH)
    moved = {old: new for new, old in document.moved.items()}
    today_of = [tuple(map(str, moved.get(part, part))) if len(part) == 1 else part for part in parts]
    messages = dict.fromkeys(fault.message.removeprefix("an older form: ") for fault in document.warnings)
    title = case.name.partition("/")[2].replace("_", " ")
    return OlderForm(
        case,
        title[0].upper() + title[1:],
        case.playbook.partition("\n")[0].removeprefix("# "),
        list(messages),
        _parts_of(case.playbook, parts),
        _parts_of(canonical(today), today_of),
    )


def _parts_of(playbook: str, parts: Iterable[tuple[str, ...]]) -> str:
    root = yaml.compose(playbook, Loader=yaml.CSafeLoader)
    keys = {key.value: (key, value) for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    sections = {name: value.value for name, (_, value) in keys.items()}
    lines: list[str] = []
    for section, *inner in parts:
        if not inner:
            lines += cut(playbook, *keys[section])
            continue
        (index,) = inner
        if index.isdecimal():
            node = sections[section][int(index)]
            lines += [f"{'  ' if number else '- '}{line}" for number, line in enumerate(cut(playbook, node, node))]
        else:
            key, value = next((key, value) for key, value in sections[section] if key.value == index)
            lines += [f"{section}:", *(f"  {line}" for line in cut(playbook, key, value))]
    return "\n".join(line.rstrip() for line in lines)


class _Dumper(yaml.SafeDumper):
    """Writes text that needs quotes in double ones."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if set(text) & set("'\"{}[]:#") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def refused() -> dict[str, dict[str, str]]:
    """Part of the language -> key -> what to write instead, or that it is not supported yet."""
    found: dict[str, dict[str, str]] = {}
    for name, part in {**vars(model), **vars(keychain)}.items():
        if inspect.isclass(part) and issubclass(part, Part) and not part.__subclasses__():
            keys = {**dict.fromkeys(part.later, LATER), **part.legacy}
            if keys:
                found[name] = dict(sorted(keys.items()))
    return found


def refused_fields(kind: str, keys: Iterable[str]) -> dict[str, str]:
    """Key of a kind of tool -> why registration refuses it; ValueError if it does not."""
    found = {}
    for key in keys:
        said = [message for message in _faults_of(kind, key) if f"'{key}'" in message]
        if not said:
            raise ValueError(f"'{key}' of {kind} is not refused by name")
        found[key] = re.sub(rf"^(the field )?'{key}'( of {kind})?:? (is )?", "", said[0])
    return found


def _faults_of(kind: str, key: str) -> list[str]:
    tool = {"kind": kind, key: "x"}
    step = {"step": "one", "tool": tool}
    playbook = {"apiVersion": grammar.API_VERSION, "kind": "Playbook", "metadata": {"name": "one"}, "workflow": [step]}
    try:
        load_checked(json.dumps(playbook))
    except InvalidPlaybook as problem:
        return [fault.message for fault in problem.faults]
    return []
