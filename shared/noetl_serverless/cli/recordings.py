"""A recorded execution: from a running stack by its id, or from a capsule by its file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .client import Client
from .execution_id import checked, path_of
from .failure import Failure, WrongUse
from .target import running_stack

if TYPE_CHECKING:
    from ..capsule.recording import Recording, Result

SUFFIX = ".noetl"
PAGE_ROWS = 2000

RecordedArgument = Annotated[
    str, typer.Argument(metavar="ID|FILE", help=f"Execution id, or path of a capsule (*{SUFFIX}).")
]


def is_capsule(name: str) -> bool:
    return name.endswith(SUFFIX) or (not name.isdigit() and Path(name).is_file())


def recording_of(name: str, data: Path | None) -> Recording:
    """The recording with its sub-playbooks. The results are not fetched from a stack. Raises Failure."""
    if is_capsule(name):
        return read_capsule(Path(name))[0]
    with running_stack(data) as client:
        return fetch(client, name)


def read_capsule(file: Path) -> tuple[Recording, dict[str, Any]]:
    from ..capsule.archive import BadCapsule
    from ..capsule.capsule import read

    try:
        return read(file)
    except BadCapsule as error:
        raise WrongUse(str(error)) from None


def fetch(
    client: Client,
    execution_id: str,
    *,
    children: bool = True,
    results: Callable[[str, dict[str, Any]], Result] | None = None,
) -> Recording:
    """`results` returns what is kept of a stored result, given the execution id and the result's row."""
    from ..capsule.recording import Recording

    path = path_of(execution_id)
    recording = client.get(f"{path}/recording")
    rows = recording["results"] + _remaining_rows(client, recording, "results", "key", path)
    stored_results = {} if results is None else {row["key"]: results(execution_id, row) for row in rows}
    return Recording(
        execution_id=execution_id,
        path=recording["path"],
        version=recording["version"],
        plan_hash=recording["plan_hash"],
        playbook=recording["playbook"],
        workload=recording["workload"],
        events=all_events(client, execution_id, recording["head"]),
        children=[fetch(client, child, results=results) for child in recording["children"]] if children else [],
        results=stored_results,
        commands=recording["commands"] + _remaining_rows(client, recording, "commands", "command_id", path),
    )


def _remaining_rows(client: Client, recording: dict[str, Any], name: str, key: str, path: str) -> list[Any]:
    """The rows that did not fit into the recording itself."""
    after = recording[name][-1][key] if recording.get(f"more_{name}") else None
    return list(client.items_from(f"{path}/{name}", "after", after))


def all_events(client: Client, execution_id: str, head: int) -> list[Any]:
    """The events up to `head`: later ones would not match what was read before."""
    from ..capsule.recording import event_of

    found: list[Any] = []
    path = f"{path_of(execution_id)}/events"
    while len(found) < head:
        page = client.get(path, after=len(found), limit=min(PAGE_ROWS, head - len(found)))
        if not page:
            raise Failure(f"the log of execution {execution_id} ends at event {len(found)}; expected event {head}")
        found += [event_of(_with_payload(client, path, event)) for event in page]
    return found


def _with_payload(client: Client, path: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event with its payload, which is fetched if a list has left it out."""
    size = event.get("payload_bytes")
    if size is None:
        return event
    content = b""
    while len(content) < size:
        part = base64.b64decode(client.get(f"{path}/{event['seq']}/payload", offset=len(content))["data"])
        if not part:
            raise Failure(f"event {event['seq']} has {len(content)} bytes; expected {size}")
        content += part
    return {**event, "payload": json.loads(content)}


def fetch_result(client: Client, execution_id: str, row: dict[str, Any], max_bytes: int) -> Result:
    """A stored result, without its content if that has more than `max_bytes` bytes, does not exist any more, or is not
    what was written."""
    from ..capsule.recording import Result
    from ..capsule.results import is_as_written
    from ..results.content import compression_of
    from .failure import Refused

    parts: list[bytes] = []
    path = f"/api/results/data/{checked(execution_id)}"
    try:
        # a small one that is compressed may be larger than its content
        is_compressed = compression_of(row["key"], None) is not None
        while row["bytes"] <= max_bytes and (is_compressed or sum(map(len, parts)) < row["bytes"]):
            answer = client.get(path, key=row["key"], offset=sum(map(len, parts)))
            part = base64.b64decode(answer["data"])
            if not part:
                break
            parts.append(part)
    except Refused as refused:
        if refused.http_status != 404:
            raise
        parts = []
    found = Result(
        key=row["key"],
        ref=row["ref"],
        size=row["bytes"],
        sha256=row["sha256"],
        content_type=row["content_type"],
        content=b"".join(parts) if parts else None,
    )
    if found.content is None:
        return replace(found, left_out="too_large" if row["bytes"] > max_bytes else "gone")
    return found if is_as_written(found) else replace(found, content=None, left_out="changed")
