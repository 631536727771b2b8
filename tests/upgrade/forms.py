"""The forms of all that a release writes down: names and types, not values.

What its code declares, and what stands in the tables after everything that can be under way was: each row is looked at
as it is written, so that nothing escapes that is overwritten a moment later.

    make upgrade-forms        writes those of the working tree to tests/golden/forms.json

A section that differs from what the release before writes needs a higher version, or is not written down.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .bed import Bed, bed
from .playbooks import KINDS, NEWER
from .release import HERE, OLD, ROOT, Release, new_release, old_release
from .store import make

GOLDEN = ROOT / "tests" / "golden"
FILE = GOLDEN / "forms.json"
OLD_FILE = GOLDEN / f"forms-{OLD}.json"

# values of people, whose form is their own
THEIRS = {
    "data",
    "workload",
    "ctx",
    "set",
    "extra",
    "extracted",
    "preview",
    "result",
    "input_payload",
    "headers",
    "_prev",
}
# by step, by item, by whatever people have named
BY_NAME = {"outcomes", "generations", "waiting", "results", "steps", "set_refs", "ctx_refs", "set_by", "writers"}
_ID = re.compile(r"[#:@]|^\d+$|\d{6,}")
_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}

# path -> the types that stand there
Form = dict[str, list[str]]

# what is to be done where a section has changed, but not its version
ADVICE = {
    "schema": "add a migration; one that is out stays as it is",
    "events": "raise FORMS in engine/upcast.py; and VERSION, with an upcaster, if older code must not read them",
    "values": "raise FORMS in engine/upcast.py; and STATE_VERSION, with an upcaster, if older code must not read it",
}
VERSIONS = {"schema": "schema", "events": "forms", "values": "forms"}

WRITTEN = """
CREATE TABLE public.written (place text, content jsonb);
CREATE FUNCTION public.write_down() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.written VALUES (TG_ARGV[0], to_jsonb(NEW));
    RETURN NULL;
END $$;
"""
TABLES = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'noetl'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY c.relname, a.attname
"""
# the older release calls them by the places of their arguments
ROUTINES = """
    SELECT format('%s(%s) -> %s', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
    FROM pg_proc p WHERE p.pronamespace = 'noetl'::regnamespace ORDER BY 1
"""


def forms_of(release: Release, runs: int = 1) -> dict[str, Any]:
    """`runs`: what is not written every time is found by several."""
    declared = declared_by(release)
    found = [_observed(release) for _ in range(runs)]
    return {
        **declared,
        "schema": {**declared["schema"], **found[0]["schema"]},
        "events": merged([one["events"] for one in found]),
        "values": {**declared["values"], **merged([one["values"] for one in found])},
    }


def declared_by(release: Release) -> dict[str, Any]:
    """As much of it as needs no database."""
    told = json.loads(release.run(HERE / "by_release" / "describe.py"))
    return {
        "versions": {"schema": max(told["migrations"]), **told["versions"]},
        "schema": {"migrations": told["migrations"]},
        "values": {"state": told["state"]},
        "wire": told["wire"],
    }


def _observed(release: Release) -> dict[str, Any]:
    with bed() as made:
        make(release, made, ("later",), _watch, KINDS if release.name == "old" else (*KINDS, *NEWER))
        tables: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for table, column, kind, required in made.query(TABLES):
            tables[table][column] = f"{kind} not null" if required else kind
        schema = {"tables": dict(tables), "routines": [line for (line,) in made.query(ROUTINES)]}
        events: defaultdict[str, Form] = defaultdict(dict)
        values: defaultdict[str, Form] = defaultdict(dict)
        for place, content in made.query("SELECT place, content FROM public.written"):
            for column, value in content.items():
                if tables[place][column].split()[0] in ("json", "jsonb") and value is not None:
                    if place in ("event", "inbox") and column == "payload":
                        look(events[content["type"]], "", value)
                    elif column not in THEIRS:
                        look(values[f"{place}.{column}"], "", value)
    return {"schema": schema, "events": _sorted(events), "values": _sorted(values)}


def _watch(made: Bed) -> None:
    made.query(WRITTEN)
    for table in dict.fromkeys(row[0] for row in made.query(TABLES)):
        made.query(
            f"""CREATE TRIGGER written AFTER INSERT OR UPDATE ON noetl.{table}
            FOR EACH ROW EXECUTE FUNCTION public.write_down('{table}')"""
        )


def look(form: Form, path: str, value: Any) -> None:
    """Add what stands at `path` to the form."""
    kind = "null" if value is None else _TYPES[type(value)]
    if kind not in (types := form.setdefault(path or ".", [])):
        types.append(kind)
        types.sort()
    if isinstance(value, dict):
        by_name = path.rpartition(".")[2] in BY_NAME
        for key, item in value.items():
            name = "*" if by_name or _ID.search(key) else key
            if name in THEIRS:
                form.setdefault(f"{path}.{name}", ["theirs"])
            else:
                look(form, f"{path}.{name}", item)
    elif isinstance(value, list):
        for item in value:
            look(form, f"{path}[]", item)


def merged(runs: Iterable[Mapping[str, Form]]) -> dict[str, Form]:
    """A type that not every run has seen is marked with a question mark."""
    some = list(runs)
    places = sorted({place for one in some for place in one})
    result: dict[str, Form] = {}
    for place in places:
        paths = sorted({path for one in some for path in one.get(place, {})})
        result[place] = {}
        for path in paths:
            seen = [set(one.get(place, {}).get(path, ())) for one in some]
            every, any_ = set.intersection(*seen), set.union(*seen)
            result[place][path] = sorted(kind if kind in every else f"{kind}?" for kind in any_)
    return result


def _sorted(forms: Mapping[str, Form]) -> dict[str, Form]:
    return {place: dict(sorted(form.items())) for place, form in sorted(forms.items())}


# -- held against what was written down


def changes(recorded: Any, seen: Any, place: str = "") -> list[str]:
    """What is there more (+) and less (-)."""
    if isinstance(recorded, dict) and isinstance(seen, dict):
        return [
            line
            for name in sorted(recorded.keys() | seen.keys())
            for line in changes(recorded.get(name), seen.get(name), f"{place} {name}".strip())
        ]
    before, after = _leaves(recorded), _leaves(seen)
    names = {name.removesuffix("?") for name in before}
    gone = sorted(name for name in before if not name.endswith("?") and name not in after)
    return [f"- {place}: {name}" for name in gone] + [
        f"+ {place}: {name}" for name in sorted(after) if name.removesuffix("?") not in names
    ]


def _leaves(value: Any) -> set[str]:
    if value is None:
        return set()
    if isinstance(value, list):
        return {item if isinstance(item, str) else json.dumps(item, sort_keys=True) for item in value}
    if isinstance(value, dict):
        # it is another kind of thing altogether, or its place is new
        return {f"{name} {leaf}".strip() for name, item in value.items() for leaf in _leaves(item) or {""}}
    return {json.dumps(value) if not isinstance(value, str) else value}


def unversioned(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The sections that have changed since the release before, and not their version."""
    found = []
    for section, advice in ADVICE.items():
        lines = changes(before[section], after[section])
        if lines and before["versions"][VERSIONS[section]] == after["versions"][VERSIONS[section]]:
            found.append(f"the {section} are not what {OLD} writes: {advice}\n" + "\n".join(lines))
    migrations = before["schema"]["migrations"]
    for name in sorted(name for name, sum in migrations.items() if after["schema"]["migrations"].get(name) != sum):
        found.append(f"the migration {name} is out, and was changed: {ADVICE['schema']}")
    return found


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        old = "--old" in words
        release = old_release(Path(folder)) if old else new_release(Path(folder))
        found = forms_of(release, runs=2)
    if not old and (wrong := unversioned(json.loads(OLD_FILE.read_text()), found)):
        print(*wrong, "nothing was written down", sep="\n", file=sys.stderr)
        return 1
    (OLD_FILE if old else FILE).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
