"""playbooks/REFERENCE.md: each key of the language with its type, its meaning and an example that a test runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.conformance.case import Case

from noetl_serverless.playbook import grammar, scope
from noetl_serverless.playbook.older_forms import names as older
from noetl_serverless.playbook.views import OutputView

from . import expressions, former
from .examples import Example, Examples
from .layout import NAMES, OBJECTS, SAME, TEXTS, Object
from .phrases import default_of, type_of
from .places import TOOL, Schema, definitions_in, is_entry, is_kind, language, rows_of

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "playbooks" / "REFERENCE.md"
COMMAND: Final = "make reference"
_NAMES: Final = Path(__file__).parent / "names.toml"
_KIND: Final = "tool."
# what tells what an entry of the keychain is stands before its other keys, which are in the order of the schema
_ENTRY_FIRST: Final = {"name": 0, "kind": 1}

_HEAD: Final = f"""\
<!-- made by `{COMMAND}` -->

# The language, key by key

What each key of a playbook takes, its default, what it does, and an example. [README.md](README.md) explains the
language by chapters, [ERRORS.md](ERRORS.md) lists the error codes, and `noetls schema` tells editors what is said here.

Each example is a part of a file of [tests/conformance](../tests/conformance/README.md), which is named below it, and
which a test runs on the whole stack. A key may be left out unless it is *required*. A *template* is text with
`{{{{ ... }}}}` or `{{% ... %}}`: see [templates](README.md#templates)."""
_OLDER: Final = """\
Where they can mean only one thing, they are accepted, with a warning that says what to write today, and refused with
`--strict`. Each example is followed by what it means, as `noetls fmt` lays it out."""
_NAMES_OF_STEPS: Final = """\
A step that has ended is read by its name: `{{ fetch.rows }}` is a field of its result, `{{ fetch }}` all of it. So are
the tasks of a list of tools, within their step, and what `output.accumulate` collects. Of a step there is also:"""
# a field of a name that is not one of the names above
_OF_STEP: Final = rf"(?<![\w.'\"])(?!(?:{'|'.join(sorted(scope.RESERVED))})\b)[a-z]\w*\.{{}}\b"
_REFUSED: Final = """\
Each is refused when the playbook is registered, with its line and with this sentence. Those that are also
[older forms](#older-forms) are refused only where they could mean two things, as `input` and `args` of one step."""


class Page:
    def __init__(self) -> None:
        self._language = language()
        self._examples = Examples(self._language)
        self._names: dict[str, Any] = tomllib.loads(_NAMES.read_text())
        # definition -> what the page calls it; those of tools are added
        self._objects = {one.definition: one.name for objects in OBJECTS.values() for one in objects}
        # part of a tool -> what the rows of its keys begin with
        self._rows: dict[str, str] = {}
        # the title of each group with what it has, for the contents
        self._contents: list[str] = []

    def text(self) -> str:
        groups = [*self._groups(), *self._kinds(), *self._templates(), *self._former()]
        body = "\n".join(groups)
        return "\n".join([_HEAD, "", "## Contents", "", *self._contents, "", body.strip(), ""])

    # -- objects and their keys

    def _groups(self) -> Iterator[str]:
        for title, objects in OBJECTS.items():
            yield from self._group(title)
            for one in objects:
                yield from self._object(one, f"Object: `{one.name}`", [one.definition])

    def _group(self, title: str) -> Iterator[str]:
        self._contents.append(f"* [{title}](#{slug(title)})")
        yield from (f"## {title}", "")

    def _object(self, one: Object, heading: str, prefixes: list[str]) -> Iterator[str]:
        """`prefixes`: what the rows of its keys begin with, most often one."""
        keys = self._language.keys(one.definition)
        if is_entry(one.definition):
            keys = dict(sorted(keys.items(), key=lambda item: _ENTRY_FIRST.get(item[0], len(_ENTRY_FIRST))))
        links = [f"[{key}](#{slug(_title(one, key))})" for key in keys]
        named = f"[{heading.partition('`')[2].rstrip('`')}](#{slug(heading)})"
        self._contents.append(f"  * {named}{': ' if links else ''}{', '.join(links)}")
        definition = self._language.definitions[one.definition]
        yield from (f"### {heading}", "", f"{_sentence(definition.get('description', ''))}", "")
        yield from (f"Place: {one.place}.", "")
        for key, field in keys.items():
            yield from self._key(one, key, field, key in definition.get("required", ()), prefixes)

    def _key(self, one: Object, key: str, field: Schema, is_required: bool, prefixes: list[str]) -> Iterator[str]:
        rows = [f"{prefix}.{key}" for prefix in prefixes]
        default = default_of(field)
        facts = [_capitalized(self._type(one, key, field, rows))]
        facts += ["*Required.*"] if is_required else [f"Default: `{default}`."] if default is not None else []
        yield from (f"#### `{_title(one, key)}`", "", " ".join(facts), "")
        if text := field.get("description"):
            yield from (_sentence(text), "")
        example = next(filter(None, map(self._examples.of, rows)), None)
        if example is not None:
            yield from _shown(example)

    def _type(self, one: Object, key: str, field: Schema, rows: list[str]) -> str:
        def of_word(word: str) -> str:
            if one.definition == TOOL and key == "kind":
                return f"[`{word}`](#{slug(f'Kind: {word}')})"
            found = next(filter(None, (self._examples.of(row, word) for row in rows)), None)
            files = [found.case] if found else [case for row in rows for case in self._examples.files(f"{row}: {word}")]
            return f"[`{word}`]({_path(files[0])})" if files else f"`{word}`"

        return f"{type_of(field, self._linked, of_word)}{self._rendering(one, key, field)}."

    def _rendering(self, one: Object, key: str, field: Schema) -> str:
        """Whether templates are rendered in a text of it, as far as its type does not say so."""
        kind = one.definition.removeprefix(_KIND).partition(".")[0] if one.definition.startswith(_KIND) else None
        if kind in grammar.SQL_KINDS and is_kind(one.definition) and key in grammar.SQL_FIELDS:
            return "; values of templates are bound"
        plain = grammar.PLAIN_CONFIG.get(kind or "", frozenset())
        is_rendered = kind is not None and key not in plain and one.definition not in SAME.values()
        is_rendered |= is_entry(one.definition) and key not in _ENTRY_FIRST
        return ", with templates" if is_rendered and _is_text(field) else ""

    def _linked(self, definition: str) -> str:
        name = self._objects.get(SAME.get(definition, definition), "")
        heading = f"Kind: `{name}`" if is_kind(definition) else f"Object: `{name}`"
        return f"object [`{name}`](#{slug(heading)})"

    # -- kinds of tools

    def _kinds(self) -> Iterator[str]:
        definitions = [name for name in self._language.definitions if name.startswith(_KIND)]
        kinds = [name for name in definitions if is_kind(name)]
        for kind in kinds:
            self._objects[kind] = kind.removeprefix(_KIND)
            self._name_parts(kind, kind.removeprefix(_KIND))
        yield from self._group("Kinds of tools")
        yield from ("These keys are beside those of [any tool](#object-tool).", "")
        for kind in kinds:
            name = kind.removeprefix(_KIND)
            yield from self._object(Object(name, kind, f"`tool` with `kind: {name}`"), f"Kind: `{name}`", [name])
            if not self._language.keys(kind):
                example = self._examples.of("Tool.kind", name)
                yield from _shown(example) if example else ()
            for part, row in self._rows.items():
                if part.startswith(f"{kind}.") and part not in SAME:
                    rows = [row, *(self._rows[other] for other, shown in SAME.items() if shown == part)]
                    place = " or ".join(f"`{one}`" for one in rows)
                    title = self._objects[part]
                    yield from self._object(Object(title, part, place), f"Object: `{title}`", rows)
        self._check_complete()

    def _name_parts(self, definition: str, holder: str) -> None:
        """Name the objects that the keys of a kind of tool, or of a part of it, may be."""
        for key, field in self._language.keys(definition).items():
            for part in definitions_in(field):
                if part not in TEXTS and part not in self._objects and part.startswith(_KIND):
                    row = self._rows[part] = rows_of(part, f"{holder}.{key}")
                    self._objects[part] = NAMES.get(part, row)
                    self._name_parts(part, row)

    def _check_complete(self) -> None:
        known = {*self._objects, *TEXTS}
        missing = [name for name in self._language.definitions if name not in known]
        if missing:
            raise ValueError(f"layout.py does not say where {missing} belong")

    # -- names, functions, filters

    def _templates(self) -> Iterator[str]:
        names = self._names
        yield from self._group("Events")
        yield from ("What `event.name` can be, in `when` of [arcs](#object-arc).", "")
        yield from self._table(names["events"], "event.name: {}", grammar.EVENT_NAMES, r"event\.name[^}}]*'{}'")
        yield from self._group("Names in templates")
        yield from self._table(names["names"], "name: {}", {*scope.RESERVED, scope.VARIABLES}, r"(?<![\w.'\"]){}\b")
        yield from (_NAMES_OF_STEPS, "")
        yield from self._table(names["steps"], "", names["steps"], _OF_STEP)
        yield from ("These are fields of `output`:", "")
        fields = ("status", "data", "response", "ref", *OutputView.PARTS)
        yield from self._table(names["output"], "", fields, r"\boutput\.{}\b")
        yield from ("These are fields of `iter`:", "")
        yield from self._table(names["iteration"], "name: iter.{}", scope.LOOP_VARIABLES, r"\biter\.{}\b")
        yield from ("And these are names of their own:", "")
        yield from self._table(names["loop"], "", names["loop"], r"\b{}\b")
        yield from self._group("Words of to and features")
        yield from ("What `then.to` may be, in place of the name of a task:", "")
        yield from self._table(names["previous"], "to: {}", grammar.PREVIOUS, None, key="Then.to")
        yield from ("What `executor.requires.features` may name:", "")
        yield from self._table(names["features"], "feature: {}", grammar.FEATURES, None)
        yield from self._group("Functions, filters, tests and methods")
        yield from ("With this workload, which the examples read without `workload.`:", "")
        yield from (f"    {expressions.workload()}", "")
        for title, lines in expressions.tables():
            self._contents.append(f"  * [{title}](#{slug(title)})")
            yield from (f"### {title}", "", *lines, "")

    def _table(
        self, texts: Mapping[str, str], row: str, known: Any, pattern: str | None, key: str | None = None
    ) -> Iterator[str]:
        if set(texts) != set(known):
            raise ValueError(f"{_NAMES.name} has {sorted(texts)}, the engine {sorted(known)}")
        yield from ("| | | example |", "|---|---|---|")
        for name, text in texts.items():
            found = self._examples.of(key, name) if key else None
            if pattern is not None:
                found = self._examples.template(row.format(name), pattern.format(re.escape(name)))
            files = [found.case] if found else self._examples.files(row.format(name))[:1]
            shown = " ".join([*([f"`{_cell(found.text)}`"] if found else []), *map(_link, files)])
            yield f"| `{name}` | {_cell(text)} | {shown} |"
        yield ""

    # -- what was, and what is not yet

    def _former(self) -> Iterator[str]:
        yield from self._group("Older forms")
        yield from (_OLDER, "", "| of | older name | today |", "|---|---|---|")
        for part, names in older.NAMES.items():
            for today, former_names in names.items():
                yield f"| {part} | {', '.join(f'`{name}`' for name in former_names)} | `{today}` |"
        yield ""
        for form in former.older_forms():
            self._contents.append(f"  * [{form.title}](#{slug(form.title)})")
            yield from (f"### {form.title}", "", form.note, "", *(f"* {message}" for message in form.messages), "")
            yield from ("```yaml", form.older, "```", "", "Today:", "", "```yaml", form.today, "```", "")
            yield from (f"<sub>{_link(form.case)}</sub>", "")
        yield from self._group("Refused keys")
        yield from (_REFUSED, "")
        yield from ("| object | key | instead | example |", "|---|---|---|---|")
        for definition, keys in sorted(former.refused().items(), key=lambda item: self._objects[item[0]]):
            for key, instead in keys.items():
                yield self._refused(self._objects[definition], key, instead, f"{definition}.{key} refused")
        for kind, keys in sorted(self._names["refused"].items()):
            for key, instead in former.refused_fields(kind, keys).items():
                yield self._refused(kind, key, instead, "")
        yield ""
        yield from self._group("Kinds of tools to come")
        yield from ("A playbook that uses one is refused: it is not supported yet.", "")
        yield from (", ".join(f"`{kind}`" for kind in sorted(grammar.LATER_KINDS)), "")

    def _refused(self, name: str, key: str, instead: str, row: str) -> str:
        links = ", ".join(map(_link, self._examples.files(row)[:1]))
        return f"| `{name}` | `{key}` | {_cell(instead)} | {links} |"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _title(one: Object, key: str) -> str:
    return key if one.definition == "Playbook" else f"{one.name}.{key}"


def _shown(example: Example) -> Iterator[str]:
    yield from ("```yaml", example.text, "```", "", f"<sub>{_link(example.case)}</sub>", "")


def _link(case: Case) -> str:
    return f"[{case.name}]({_path(case)})"


def _path(case: Case) -> str:
    return f"../{case.path.relative_to(ROOT).as_posix()}"


def _is_text(field: Schema) -> bool:
    """Whether any text may be its value, or one of the values in it, and its type does not speak of templates."""
    options = [field, *field.get("anyOf", ()), *field.get("oneOf", ())]
    inner = [one["additionalProperties"] for one in options if isinstance(one.get("additionalProperties"), Mapping)]
    texts = [one for one in (*options, *inner) if one.get("type") == "string"]
    has_own = any("Template" in one.get("$ref", "") for one in options)
    return not has_own and any(not {"enum", "const", "pattern"} & one.keys() for one in texts)


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", ":")) else f"{text}."


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
