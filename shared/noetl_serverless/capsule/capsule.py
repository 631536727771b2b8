"""The file: a zip of manifest.json, events.jsonl, playbook.yaml, workload.json, children/<id>/... and data/<sha256>."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ..engine.digest import digest, raw_digest
from ..errors import InvalidPlaybook
from ..results.accumulated import MANIFEST_TYPE
from ..telemetry.mask import MASK
from ..telemetry.masking import Masking
from ..tools.plans import load_plan
from .archive import BadCapsule, CapsuleFile
from .recording import Recording, Result, events_of, line_of
from .results import unpacked

FORMAT = "noetl-capsule/1"
MAX_DEPTH = 64
# of objects and lists in each other
MAX_NESTING = 200
# every file has the same date, so that the same execution gives the same bytes
EPOCH = (1980, 1, 1, 0, 0, 0)
# replaces a secret in a playbook, where asterisks would be a YAML alias
PLAIN_MASK = "masked"
NEVER = re.compile(r"(?!)")
ASSIGNMENT = re.compile(r"[^=!<>]=[^=]")
JSON_TYPES = ("application/json", "text/json", MANIFEST_TYPE)


@dataclass(kw_only=True, frozen=True)
class Packed:
    """What went into a capsule: bytes of result data, how many results were left out, how many values masked."""

    executions: int
    events: int
    bytes: int
    left_out: int
    masked: int


def write(recording: Recording, file: Path, masking: Masking, *, max_bytes: int, release: str) -> Packed:
    """Secrets are masked in all that is written; results are included, smaller ones first, up to `max_bytes`."""
    packer = _Packer(masking, max_bytes)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        executions = [
            packer.execution(target, nested, _folder(recording, nested)) for nested in recording.with_descendants()
        ]
        results = packer.results(target, recording)
        manifest = {
            "format": FORMAT,
            "release": release,
            "execution_id": recording.execution_id,
            "executions": executions,
            "results": results,
            "masked": packer.masked,
        }
        _put(target, "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False).encode())
    left_out = sum(1 for result in results if result["file"] is None)
    return Packed(
        executions=len(executions), events=packer.events, bytes=packer.bytes, left_out=left_out, masked=packer.masked
    )


def read(file: Path) -> tuple[Recording, dict[str, Any]]:
    """The recording and its manifest; raises BadCapsule."""
    with CapsuleFile(file) as archive:
        manifest = _json(archive.read("manifest.json"), "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise BadCapsule(f"{file} is not a capsule of the format {FORMAT}")
        try:
            return _recording(archive, manifest), manifest
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, BadCapsule):
                raise
            raise BadCapsule(f"{file}: the manifest is not valid: {error!r}") from None


# -- writing


class _Packer:
    def __init__(self, masking: Masking, max_bytes: int) -> None:
        self.masking = masking
        self.left = max_bytes
        self.masked = 0
        self.events = 0
        self.bytes = 0

    def execution(self, target: zipfile.ZipFile, recording: Recording, folder: str) -> dict[str, Any]:
        text = io.BytesIO()
        for event in recording.events:
            text.write(orjson.dumps(self._mask(line_of(event))) + b"\n")
        self.events += len(recording.events)
        _put(target, f"{folder}events.jsonl", text.getvalue())
        _put(target, f"{folder}playbook.yaml", self._playbook(recording.playbook).encode())
        _put(target, f"{folder}workload.json", orjson.dumps(self._mask(dict(recording.workload))))
        return {
            "execution_id": recording.execution_id,
            "folder": folder,
            "path": recording.path,
            "version": recording.version,
            "plan_hash": recording.plan_hash,
            "events": len(recording.events),
            "children": [child.execution_id for child in recording.children],
            # of the original log, before anything was masked
            "digest": digest(recording.execution_id, recording.events, recording.workload).value,
            "raw_digest": raw_digest(recording.events),
        }

    def results(self, target: zipfile.ZipFile, recording: Recording) -> list[dict[str, Any]]:
        entries = []
        written: set[str] = set()
        for execution_id, result in sorted(_results(recording), key=lambda item: item[1].size):
            content, left_out = result.content, result.left_out
            if content is not None and result.size > self.left:
                content, left_out = None, "too_large"
            name = None
            if content is not None:
                content = self._masked_content(content, result)
                left_out = None if content is not None else "secret"
            if content is not None:
                name = f"data/{hashlib.sha256(content).hexdigest()}"
                if name not in written:
                    written.add(name)
                    _put(target, name, content)
                    self.left -= len(content)
                    self.bytes += len(content)
            entries.append(
                {
                    "execution_id": execution_id,
                    "key": result.key,
                    "ref": result.ref,
                    "bytes": result.size,
                    "sha256": result.sha256,
                    "content_type": result.content_type,
                    "file": name,
                    "left_out": left_out,
                }
            )
        return sorted(entries, key=lambda entry: (entry["execution_id"], entry["key"]))

    def _masked_content(self, content: bytes, result: Result) -> bytes | None:
        try:
            plain = unpacked(result)
        except ValueError:
            # nobody knows what is in it
            return None
        if plain is not content or result.content_type.split(";")[0] not in JSON_TYPES:
            # a part of it cannot be replaced, so content with a secret is left out
            text = plain.decode("latin-1")
            return content if self.masking.text(text) == text else None
        before = self.masked
        masked = self._mask(orjson.loads(content))
        return orjson.dumps(masked) if self.masked != before else content

    def _playbook(self, text: str) -> str:
        """The playbook, masked so that it can still be loaded: what looks like a secret may be code."""
        masked = text
        for unmasked in (NEVER, ASSIGNMENT):
            lines = [line if unmasked.search(line) else self._line(line) for line in text.splitlines(keepends=True)]
            masked = "".join(lines)
            try:
                load_plan(masked)
            except InvalidPlaybook:
                continue
            break
        self.masked += masked.count(PLAIN_MASK) - text.count(PLAIN_MASK)
        return masked

    def _line(self, line: str) -> str:
        # asterisks that are in the text already are no masks
        kept = line.replace(MASK, "\0")
        return self.masking.text(kept).replace(MASK, PLAIN_MASK).replace("\0", MASK)

    def _mask(self, value: Any) -> Any:
        masked = self.masking.tree(value)
        self.masked += max(0, _count(masked) - _count(value))
        return masked


def _count(value: Any) -> int:
    """How many masks the value contains."""
    match value:
        case str():
            return value.count(MASK)
        case dict():
            return sum(_count(item) for item in value.values())
        case list() | tuple():
            return sum(_count(item) for item in value)
    return 0


def _results(recording: Recording) -> Iterator[tuple[str, Result]]:
    for nested in recording.with_descendants():
        for result in nested.results.values():
            yield nested.execution_id, result


def _folder(root: Recording, recording: Recording) -> str:
    return "" if recording is root else f"children/{recording.execution_id}/"


def _put(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    target.writestr(entry, content)


# -- reading


def _recording(archive: CapsuleFile, manifest: dict[str, Any]) -> Recording:
    entries = {str(entry["execution_id"]): entry for entry in manifest["executions"]}
    results: dict[str, dict[str, Result]] = {}
    for entry in manifest["results"]:
        result = _result(archive, entry)
        results.setdefault(str(entry["execution_id"]), {})[result.key] = result
    return _execution(archive, entries, results, str(manifest["execution_id"]), 0)


def _execution(
    archive: CapsuleFile,
    entries: dict[str, dict[str, Any]],
    results: dict[str, dict[str, Result]],
    execution_id: str,
    depth: int,
) -> Recording:
    if depth > MAX_DEPTH:
        raise BadCapsule("the executions in the capsule are nested too deeply")
    # each is read once, so that children that name each other do not recurse without end
    entry = entries.pop(execution_id)
    folder = str(entry["folder"])
    lines = archive.read(f"{folder}events.jsonl").splitlines()
    events = events_of(_json(line, f"{folder}events.jsonl, line {n}") for n, line in enumerate(lines, 1))
    workload = _json(archive.read(f"{folder}workload.json"), f"{folder}workload.json")
    return Recording(
        execution_id=execution_id,
        path=str(entry["path"]),
        version=int(entry["version"]),
        plan_hash=str(entry["plan_hash"]),
        playbook=archive.read(f"{folder}playbook.yaml").decode(),
        workload=dict(workload),
        events=events,
        children=[_execution(archive, entries, results, str(child), depth + 1) for child in entry["children"]],
        results=results.get(execution_id, {}),
    )


def _result(archive: CapsuleFile, entry: dict[str, Any]) -> Result:
    content = None
    if entry["file"] is not None:
        name = str(entry["file"])
        content = archive.read(name)
        if name != f"data/{hashlib.sha256(content).hexdigest()}":
            raise BadCapsule(f"{name} does not match its checksum")
    size, digest_of = int(entry["bytes"]), str(entry["sha256"])
    return Result(
        key=str(entry["key"]),
        ref=str(entry["ref"]),
        size=size,
        sha256=digest_of,
        content_type=str(entry["content_type"]),
        content=content,
        left_out=entry.get("left_out"),
    )


def _json(content: bytes, name: str) -> Any:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadCapsule(f"{name} is not JSON: {error}") from None
    level, depth = [value], 0
    while level := [inner for item in level for inner in _inside(item)]:
        depth += 1
        if depth > MAX_NESTING:
            raise BadCapsule(f"{name} is nested more than {MAX_NESTING} levels deep")
    return value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [item for item in value.values() if isinstance(item, dict | list)]
    return [item for item in value if isinstance(item, dict | list)] if isinstance(value, list) else []
