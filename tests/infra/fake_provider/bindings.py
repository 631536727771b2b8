"""Reads the schema of the real provider out of its published bindings for Python.

The wheel of `cdktf-cdktf-provider-aws`, and that of any other provider, holds a jsii archive, and in it one module for
each resource, made by a program from the provider's own schema. Its TypeScript, which the source map carries, has
names, types, blocks and how they nest, and for each attribute whether it is required, optional, computed, or optional
and computed. What the bindings do not say (which change replaces a resource, defaults, validation) is up to the fake
provider's resources.

    python -m tests.infra.fake_provider.bindings NAME WHEEL_OR_FOLDER    writes schema.json for that provider's types
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .catalog import provider, schema_file

_PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool"}
_COLLECTIONS = {
    "stringList": "string",
    "numberList": "number",
    "booleanList": "bool",
    "stringMap": "string",
    "numberMap": "number",
    "booleanMap": "bool",
}
_GETTERS = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"],
    "getNumberMapAttribute": ["map", "number"],
    "getBooleanMapAttribute": ["map", "bool"],
}
_SOURCE_MAP = re.compile(r"sourceMappingURL=data:application/json;base64,([A-Za-z0-9+/=]+)")
_CLASS = re.compile(r"^export class (\w+) extends [\w.]+ \{\n(.*?)^\}", re.S | re.M)
_FUNCTION = re.compile(r"^export function (\w+)ToHclTerraform\(.*?\{\n(.*?)^\}", re.S | re.M)
_SYNTHESIS = re.compile(r"synthesizeHclAttributes\(\)[^\n]*\{\n\s+const attrs = \{\n(.*?)\n\s+\};\n", re.S)
_ENTRY = re.compile(
    r"^\s+(\w+): \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\",\n\s+storageClassType: \"(\w+)\",",
    re.M,
)
_FLAGS = re.compile(r"// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n(.*\n.*\n)")
_COMPUTED_MAP = re.compile(r"new cdktf\.(String|Number|Boolean)Map\(this, ")
_MAPPED = re.compile(r"(\w+)ToHclTerraform")
_NESTED = re.compile(r"new (\w+?)(OutputReference|List|Map)\(this, \"(\w+)\"(?:, (true|false))?\)")

Schema = dict[str, Any]


class NotInBindings(KeyError):
    """The bindings have no resource or data source of that name."""


def modules(path: Path) -> dict[str, str]:
    """Name of a module (`lambda-function`, `data-aws-region`, `provider`) -> its source, from a wheel or a folder."""
    if path.is_dir():
        archive = next(path.rglob("*.jsii.tgz")).read_bytes()
    else:
        with zipfile.ZipFile(path) as wheel:
            archive = wheel.read(next(name for name in wheel.namelist() if name.endswith(".jsii.tgz")))
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            parts = member.name.split("/")
            if parts[:2] == ["package", "lib"] and parts[-1] == "index.js" and len(parts) == 4:
                file = tar.extractfile(member)
                assert file is not None
                found[parts[2]] = file.read().decode()
    return found


def typescript_of(javascript: str) -> str:
    found = _SOURCE_MAP.search(javascript)
    if found is None:
        raise ValueError("the module carries no source map")
    return str(json.loads(base64.b64decode(found.group(1)))["sourcesContent"][0])


def module_of(kind: str, type_name: str) -> str:
    """`aws_sqs_queue` -> `sqs-queue`, or `data-aws-sqs-queue`"""
    prefix, _, name = type_name.replace("_", "-").partition("-")
    return f"data-{prefix}-{name}" if kind == "data" else name


def block_of(javascript: str) -> Schema:
    """{"attributes": {name: {"type", "required" or "optional", "computed"}}, "blocks": {name: {"nesting", "block"}}}"""
    return _Module(typescript_of(javascript)).top()


class _Module:
    def __init__(self, source: str) -> None:
        self._classes = dict(_CLASS.findall(source))
        self._functions = {name.lower(): body for name, body in _FUNCTION.findall(source)}
        self._top = next(
            body
            for body in self._classes.values()
            if "synthesizeHclAttributes" in body or "static readonly tfResourceType" in body
        )

    def top(self) -> Schema:
        table = _SYNTHESIS.search(self._top)
        block = self._block(table.group(1) if table else "", self._top)
        return block

    def _block(self, table: str, owner: str) -> Schema:
        flags = {name: _marks(*marks) for name, *marks, _ in _FLAGS.findall(owner)}
        attributes: Schema = {}
        blocks: Schema = {}
        for name, value, is_block, kind, stored in _ENTRY.findall(table):
            marks = flags.get(name, {"optional": True})
            simple = _simple(kind, stored)
            if simple is not None:
                attributes[name] = {"type": simple, **marks}
            elif is_block == "true":
                blocks[name] = self._nested_block(name, value, kind, owner, marks)
            else:
                attributes[name] = {"type": self._object(value, kind), **marks}
        for name, type_ in self._computed(owner):
            attributes.setdefault(name, {"type": type_, "computed": True})
        return {"attributes": attributes, "blocks": blocks}

    def _nested_block(self, name: str, value: str, kind: str, owner: str, marks: Mapping[str, bool]) -> Schema:
        function = _MAPPED.findall(value)[-1]
        single = any(how == "OutputReference" and named == name for _, how, named, _ in _NESTED.findall(owner))
        nested: Schema = {
            "nesting": {"list": "list", "set": "set"}.get(kind, "single"),
            "block": self._block(self._functions[function.lower()], self._reference(function)),
        }
        if nested["nesting"] != "single":
            if single:
                nested["max"] = 1
            if marks.get("required"):
                nested["min"] = 1
        return nested

    def _object(self, value: str, kind: str) -> Any:
        """An attribute whose type is made of objects."""
        mapped = _MAPPED.findall(value)
        if not mapped or mapped[-1].lower() not in self._functions:
            return "dynamic"
        function = mapped[-1]
        inner = self._block(self._functions[function.lower()], self._reference(function))
        members = {name: attribute["type"] for name, attribute in inner["attributes"].items()}
        return ["object", members] if kind == "struct" else [kind, ["object", members]]

    def _computed(self, owner: str) -> Iterator[tuple[str, Any]]:
        for name, computed, optional, required, code in _FLAGS.findall(owner):
            if (computed, optional, required) != ("true", "false", "false"):
                continue
            nested = _NESTED.search(code)
            if nested:
                yield name, self._computed_objects(nested)
                continue
            simple = _COMPUTED_MAP.search(code)
            if simple:
                yield name, ["map", _PRIMITIVES[simple.group(1).lower()]]
                continue
            getter = next((type_ for getter, type_ in _GETTERS.items() if f"{getter}(" in code), None)
            if getter is not None:
                yield name, ["set", getter[1]] if "Fn.tolist" in code else getter

    def _computed_objects(self, nested: re.Match[str]) -> Any:
        class_name, how, _, is_set = nested.groups()
        owner = self._classes.get(f"{class_name}OutputReference", "")
        members = ["object", dict(self._computed(owner))]
        if how == "OutputReference":
            return members
        return ["map" if how == "Map" else "set" if is_set == "true" else "list", members]

    def _reference(self, function: str) -> str:
        wanted = f"{function}OutputReference".lower()
        return next((body for name, body in self._classes.items() if name.lower() == wanted), "")


def _marks(computed: str, optional: str, required: str) -> dict[str, bool]:
    marks = {"computed": computed, "optional": optional, "required": required}
    return {name: True for name, said in marks.items() if said == "true"}


def _simple(kind: str, stored: str) -> Any:
    if stored in _PRIMITIVES:
        return ["map", _PRIMITIVES[stored]] if kind == "map" else _PRIMITIVES[stored]
    if stored in _COLLECTIONS:
        return [kind if kind in ("list", "set", "map") else "list", _COLLECTIONS[stored]]
    return None


def extract(path: Path, resources: list[str], data_sources: list[str]) -> Schema:
    """NotInBindings names a type that is not there."""
    found = modules(path)

    def one(kind: str, type_name: str) -> Schema:
        module = module_of(kind, type_name)
        if module not in found:
            raise NotInBindings(type_name)
        return block_of(found[module])

    version = re.search(r"providerVersion: '([\d.]+)'", next(iter(found[module_of("r", resources[0])].split("\0"))))
    return {
        "version": version.group(1) if version else "",
        "provider": block_of(found["provider"]),
        "resources": {name: one("resource", name) for name in resources},
        "data_sources": {name: one("data", name) for name in data_sources},
    }


def main(name: str, path: str) -> None:
    ours = provider(name)
    schema = extract(Path(path), sorted(ours.resources()), sorted(ours.data_sources()))
    target = schema_file(name)
    target.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
    print(f"{len(schema['resources'])} resources, {len(schema['data_sources'])} data sources -> {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
