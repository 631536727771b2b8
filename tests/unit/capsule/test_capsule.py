"""An execution in a file: what goes in comes out, secrets stay out, and a file that is up to no good is refused."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.capsule.archive import MAX_ENTRIES, BadCapsule
from noetl_serverless.capsule.capsule import read, write
from noetl_serverless.capsule.recording import Recording, Result
from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest, raw_digest
from noetl_serverless.engine.events import Event
from noetl_serverless.telemetry.masking import Masking

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workload: {user: me, password: hunter22, note: "*** see below"}
workflow:
  - step: a
    tool:
      kind: python
      code: |
        def ask(password): return password
        secret = ask(1)
        result = secret
"""
WORKLOAD = {"user": "me", "password": "hunter22"}


def event(seq: int, type: str, cause: int | None = None, /, **payload: Any) -> Event:
    return Event(
        type, 1_800_000_000_000 + seq, seq=seq, cause=cause, step="a", generation=1, command_id="a#1", payload=payload
    )


def recording(id: str = "7", **more: Any) -> Recording:
    events = [
        Event(e.STARTED, 1_800_000_000_000, seq=1, payload={"workload": WORKLOAD, "entry": "a", "plan": "h"}),
        event(2, e.ISSUED, 1, kind="step", attempt=1, scope={}),
        event(3, e.CALL_DONE, data={"header": "Bearer abcdefghijklmnop", "value": "topsecretvalue", "n": 1.5}),
        Event(
            e.COMPLETED,
            1_800_000_000_003,
            seq=4,
            cause=3,
            payload={"routes": [{"step": "a", "generation": 1, "event": "x"}]},
        ),
    ]
    return replace(
        Recording(
            execution_id=id, path="t/t", version=3, plan_hash="h", playbook=PLAYBOOK, workload=WORKLOAD, events=events
        ),
        **more,
    )


def result(name: str, content: bytes, kind: str = "application/json") -> Result:
    return Result(
        key=name,
        ref=f"noetl://{name}",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        content_type=kind,
        content=content,
    )


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Any]:
    def pack(found: Recording, masking: Masking | None = None, max_bytes: int = 10**6) -> Any:
        file = tmp_path / "run.noetl"
        packed = write(found, file, masking or Masking(), max_bytes=max_bytes, release="1.2.3")
        return file, packed

    return pack


def test_what_goes_in_comes_out(pack: Callable[..., Any]) -> None:
    plain = replace(recording(), workload={}, playbook=PLAYBOOK.replace("hunter22", '"{{ x }}"'))
    plain.events[0].payload["workload"] = {}
    plain.events[2].payload["data"] = {"n": 1.5, "text": "ü\u2028"}
    child = replace(plain, execution_id="8")
    whole = replace(plain, children=[child], results={"k": result("k", b'{"x": 1}')})
    file, packed = pack(whole)
    found, manifest = read(file)
    assert found == whole
    assert packed.executions == 2
    assert packed.events == 8
    assert manifest["release"] == "1.2.3"
    assert manifest["executions"][0]["digest"] == digest("7", whole.events, whole.workload).value
    assert manifest["executions"][0]["raw_digest"] == raw_digest(found.events)


def test_the_same_execution_gives_the_same_bytes(pack: Callable[..., Any]) -> None:
    first = pack(recording())[0].read_bytes()
    assert pack(recording())[0].read_bytes() == first


def test_secrets_do_not_get_into_the_file(pack: Callable[..., Any]) -> None:
    masking = Masking()
    masking.register("topsecretvalue")
    stored = {
        "json": result("json", json.dumps({"inside": ["topsecretvalue"]}).encode()),
        "arrow": result("arrow", b"ARROW1\0\0topsecretvalue", "application/vnd.apache.arrow.stream"),
        "clean": result("clean", b"ARROW1\0\0", "application/vnd.apache.arrow.stream"),
    }
    file, packed = pack(recording(results=stored), masking)
    with zipfile.ZipFile(file) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    for secret in (b"topsecretvalue", b"hunter22", b"abcdefghijklmnop"):
        assert secret not in everything
    assert packed.masked >= 4
    assert packed.left_out == 1
    found, _ = read(file)
    assert found.results["arrow"].content is None
    assert found.results["clean"].content == b"ARROW1\0\0"
    assert found.events[2].payload["data"]["n"] == 1.5


def test_a_masked_playbook_can_still_be_read(pack: Callable[..., Any]) -> None:
    found, _ = read(pack(recording())[0])
    assert found.plan.workload == {"user": "me", "password": "masked", "note": "*** see below"}
    assert "secret = ask(1)" in found.playbook


def test_small_results_go_first_and_the_rest_stays_out(pack: Callable[..., Any]) -> None:
    stored = {name: result(name, json.dumps("x" * size).encode()) for name, size in (("a", 900), ("b", 10), ("c", 500))}
    file, packed = pack(recording(results=stored), max_bytes=600)
    found, _ = read(file)
    assert {name for name, kept in found.results.items() if kept.content is not None} == {"b", "c"}
    assert (packed.left_out, packed.bytes) == (1, 514)


# -- files that are up to no good


def rewritten(file: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/../../b", "a\\..\\b", "C:\\x", "data/", ".hidden", "a//b", "x" * 400, "a\nb"]
)
def test_a_name_that_leads_elsewhere_is_refused(pack: Callable[..., Any], name: str) -> None:
    file = rewritten(pack(recording())[0], lambda entries: entries.update({name: b"x"}))
    with pytest.raises(BadCapsule, match=r"name|zip"):
        read(file)


def test_a_folder_in_the_manifest_leads_nowhere_else(pack: Callable[..., Any]) -> None:
    def change(entries: dict[str, bytes]) -> None:
        manifest = json.loads(entries["manifest.json"])
        manifest["executions"][0]["folder"] = "../../etc/"
        entries["manifest.json"] = json.dumps(manifest).encode()

    with pytest.raises(BadCapsule, match="has no"):
        read(rewritten(pack(recording())[0], change))


def test_a_bomb_is_refused_unopened(pack: Callable[..., Any]) -> None:
    file = rewritten(pack(recording())[0], lambda entries: entries.update({"data/bomb": b"\0" * 50_000_000}))
    with pytest.raises(BadCapsule, match="times its size"):
        read(file)


def test_many_bombs_are_refused_by_what_they_come_to(pack: Callable[..., Any]) -> None:
    def change(entries: dict[str, bytes]) -> None:
        entries.update({f"data/{n}": b"\0" * 10_000_000 for n in range(60)})

    with pytest.raises(BadCapsule, match="more than"):
        read(rewritten(pack(recording())[0], change))


def test_an_entry_that_is_larger_than_it_says_is_refused(pack: Callable[..., Any]) -> None:
    file = pack(recording())[0]
    content = bytearray(file.read_bytes())
    # the size in the central directory, which is what a reader is told
    place = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, place + 24, 10)
    file.write_bytes(content)
    with pytest.raises(BadCapsule):
        read(file)


def test_too_many_entries_are_refused(pack: Callable[..., Any]) -> None:
    def change(entries: dict[str, bytes]) -> None:
        entries.update({f"data/{n}": b"" for n in range(MAX_ENTRIES)})

    with pytest.raises(BadCapsule, match="entries"):
        read(rewritten(pack(recording())[0], change))


def test_a_link_is_refused(pack: Callable[..., Any]) -> None:
    file = pack(recording())[0]
    with zipfile.ZipFile(file, "a") as archive:
        entry = zipfile.ZipInfo("data/link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(BadCapsule, match="not a regular file"):
        read(file)


def test_two_entries_of_one_name_are_refused(pack: Callable[..., Any]) -> None:
    file = pack(recording())[0]
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("manifest.json", "{}")
    with pytest.raises(BadCapsule, match="two entries"):
        read(file)


def test_nesting_without_end_is_refused(pack: Callable[..., Any]) -> None:
    deep = b'{"seq": 1, "payload": ' + b"[" * 500 + b"]" * 500 + b"}"
    with pytest.raises(BadCapsule, match="nested"):
        read(rewritten(pack(recording())[0], lambda entries: entries.update({"events.jsonl": deep})))


def test_data_that_is_not_what_its_name_says_is_refused(pack: Callable[..., Any]) -> None:
    def change(entries: dict[str, bytes]) -> None:
        name = next(name for name in entries if name.startswith("data/"))
        entries[name] = b'"forged"'

    file = pack(recording(results={"k": result("k", b'"real"')}))[0]
    with pytest.raises(BadCapsule, match="does not match its checksum"):
        read(rewritten(file, change))


def test_children_that_name_each_other_are_refused(pack: Callable[..., Any]) -> None:
    def change(entries: dict[str, bytes]) -> None:
        manifest = json.loads(entries["manifest.json"])
        manifest["executions"][0]["children"] = ["7"]
        entries["manifest.json"] = json.dumps(manifest).encode()

    with pytest.raises(BadCapsule):
        read(rewritten(pack(recording())[0], change))


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{}", b'{"format": "noetl-capsule/2"}', b'{"format": "noetl-capsule/1"}', b"\xff"]
)
def test_a_manifest_that_is_none_is_refused(pack: Callable[..., Any], manifest: bytes) -> None:
    with pytest.raises(BadCapsule):
        read(rewritten(pack(recording())[0], lambda entries: entries.update({"manifest.json": manifest})))


@pytest.mark.parametrize("line", [b"no json", b"[]", b"{}", b'{"type": 1, "at": "x", "seq": 1, "payload": 3}'])
def test_events_that_are_none_are_refused(pack: Callable[..., Any], line: bytes) -> None:
    with pytest.raises(BadCapsule):
        read(rewritten(pack(recording())[0], lambda entries: entries.update({"events.jsonl": line})))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000])
def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.noetl"
    file.write_bytes(content)
    with pytest.raises(BadCapsule, match="is no capsule of `noetls export`"):
        read(file)
    with pytest.raises(BadCapsule):
        read(tmp_path / "missing.noetl")


def test_damage_anywhere_is_reported_and_never_more(pack: Callable[..., Any]) -> None:
    """Whatever byte is changed, the reader gives the recording or refuses."""
    file = pack(recording(results={"k": result("k", b'"real"')}))[0]
    content, whole = file.read_bytes(), read(file)
    refused = 0
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        try:
            assert read(file) == whole, f"byte {place} was changed, and what was read with it"
        except BadCapsule:
            refused += 1
    assert refused
