"""The sources that the reconciler reads by itself: streams of NATS, and folders of the machine that it runs on."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from ..bus.nats_messages import NatsMessages, StreamConsumer
from ..errors import Forbidden, InvalidRequest, NotFound, Problem
from ..store.triggers import PolledTrigger, StoredTrigger, Trigger
from .triggers import SourceEvent, SourceEvents

# the name of a trigger's consumer: its id, and a digest of its subject
_CONSUMER: Final = re.compile(r"noetl-trigger-(\d{1,18})-[0-9a-f]{8}")
# files of a folder that are looked at
MAX_FILES: Final = 10_000
# how long a file must have been left unchanged, since it may still be written
SETTLED_NS: Final = 1_000_000_000
# the first and the last second of what `datetime` knows, since 1970: a file may say that it is of any other
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
# names in one line of the log
_NAMED: Final = 10

logger = logging.getLogger(__name__)


class KnownTriggers(Protocol):
    """What is needed of `store.triggers.Triggers`."""

    async def by_ids(self, trigger_ids: Sequence[int]) -> list[Trigger]: ...


class NatsSource:
    def __init__(self, messages: NatsMessages, triggers: KnownTriggers) -> None:
        self._messages = messages
        self._triggers = triggers

    async def read(self, trigger: PolledTrigger, limit: int) -> SourceEvents:
        found = await self._messages.read(_consumer_of(trigger), limit, self._stale)
        events = [SourceEvent(event=one.event, acknowledge=one.acknowledge) for one in found]
        return SourceEvents(events=events, more=len(found) == limit)

    async def _stale(self, stream: str, names: Sequence[str]) -> list[str]:
        """Of the consumers of a stream those of triggers that no longer read by them: in a work queue, they would keep
        others from it. Not those of triggers that are unknown: they may be another deployment's."""
        owners = {name: int(found[1]) for name in names if (found := _CONSUMER.fullmatch(name))}
        known = {trigger.trigger_id: trigger for trigger in await self._triggers.by_ids(sorted(set(owners.values())))}
        return [
            name for name, owner in owners.items() if owner in known and not _is_read_by(known[owner], stream, name)
        ]


def _consumer_of(trigger: StoredTrigger) -> StreamConsumer:
    subject = trigger.config.get("subject")
    digest = hashlib.sha256(str(subject).encode()).hexdigest()[:8]
    return StreamConsumer(
        stream=str(trigger.config["stream"]),
        subject=subject,
        # of another subject, it would go on reading the one before
        name=f"noetl-trigger-{trigger.trigger_id}-{digest}",
        since=trigger.updated_at,
    )


def _is_read_by(trigger: Trigger, stream: str, name: str) -> bool:
    """Also while it is disabled: then its messages wait."""
    if not trigger.declared or trigger.kind != "message" or not trigger.source.startswith("nats:"):
        return False
    consumer = _consumer_of(trigger)
    return (consumer.stream, consumer.name) == (stream, name)


@dataclass(frozen=True, slots=True, order=True)
class _File:
    changed_ns: int
    name: str
    modified_ns: int
    size: int


class FolderSource:
    """Files that are written to a folder, or moved into it, since the trigger was registered. Not what lies in folders
    below it, and not what begins with a dot. Names that are not UTF-8 cannot be told of in an event: they are the
    trigger's problem, as long as they are there. `private`: folders that nobody may see."""

    def __init__(self, private: Sequence[Path] = ()) -> None:
        self._private = [folder.resolve() for folder in private]
        # of each folder, the names that the log has as left out
        self._left_out: dict[Path, set[str]] = {}

    async def read(self, trigger: PolledTrigger, limit: int) -> SourceEvents:
        folder = Path(unquote(urlsplit(trigger.source).path))
        registered_ns = int(trigger.updated_at.timestamp() * 1e9)
        since = trigger.position or {"changed_ns": registered_ns, "name": ""}
        files = await asyncio.to_thread(self._files, folder, str(trigger.config.get("suffix", "")))
        position = (int(since["changed_ns"]), str(since["name"]))
        unread = [file.name for file in files if not _is_text(file.name) and file.changed_ns > registered_ns]
        new = sorted(file for file in files if _is_text(file.name) and (file.changed_ns, file.name) > position)
        taken = new[:limit]
        if taken:
            since = {"changed_ns": taken[-1].changed_ns, "name": taken[-1].name}
        events = [SourceEvent(event=_event(trigger.source, folder, file)) for file in taken]
        problem = _problem(folder, unread) if unread else None
        return SourceEvents(events=events, position=since, more=len(new) > limit, problem=problem)

    def _files(self, folder: Path, suffix: str) -> list[_File]:
        real = folder.resolve()
        if self._is_private(real):
            raise Forbidden(f"the folder {folder} is one of this stack's own")
        found: list[_File] = []
        left_out: set[str] = set()
        before = time.time_ns() - SETTLED_NS
        try:
            with os.scandir(real) as entries:
                for number, entry in enumerate(entries):
                    if number >= MAX_FILES:
                        raise InvalidRequest(
                            f"the folder {folder} has more than {MAX_FILES} files: move them elsewhere"
                        )
                    if entry.name.startswith(".") or not entry.name.endswith(suffix):
                        continue
                    if entry.is_symlink() and not self._leads_below(real, entry):
                        left_out.add(entry.name)
                        continue
                    status = _status(entry)
                    # its times of modification are whatever its writer says, and may lie ahead of this clock: one that
                    # waited for them would come after files that were changed later, and be passed over
                    if status is not None and status.st_ctime_ns <= before:
                        if not _is_text(entry.name):
                            left_out.add(entry.name)
                        found.append(_File(status.st_ctime_ns, entry.name, status.st_mtime_ns, status.st_size))
        except OSError as error:
            raise NotFound(f"the folder {folder} cannot be read: {error.strerror}") from None
        self._tell(folder, left_out)
        return found

    def _is_private(self, real: Path) -> bool:
        return any(real.is_relative_to(private) for private in self._private)

    def _leads_below(self, folder: Path, link: os.DirEntry[str]) -> bool:
        """Whether a link leads to what whoever writes to the folder could have written there."""
        try:
            target = Path(link.path).resolve(strict=True)
        except (OSError, RuntimeError):
            # to nothing, or to itself
            return False
        return target.is_relative_to(folder) and not self._is_private(target)

    def _tell(self, folder: Path, left_out: set[str]) -> None:
        """Once for each name."""
        new = sorted(left_out - self._left_out.get(folder, set()))
        self._left_out[folder] = left_out
        if new:
            names = ", ".join(ascii(name) for name in new[:_NAMED]) + (", ..." if new[_NAMED:] else "")
            logger.warning(
                "files of %s are left out, since their names are not UTF-8 or they are links out of it: %s",
                folder,
                names,
            )


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what is no file, or has gone."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(folder: Path, names: Sequence[str]) -> Problem:
    # as bytes, without what a terminal would take for a command
    shown = [repr(os.fsencode(name))[1:] for name in sorted(names)[:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
    return InvalidRequest(
        f"files of {folder} are not read, since their names are not UTF-8: {', '.join(shown)}{more}. Rename them"
    )


def _event(source: str, folder: Path, file: _File) -> dict[str, Any]:
    url = (folder / file.name).as_uri()
    at = datetime.fromtimestamp(min(max(file.modified_ns / 1e9, _FIRST_SECOND), _LAST_SECOND), UTC)
    return {
        "id": f"{url}:{file.modified_ns}:{file.size}",
        "source": source,
        "type": "object.created",
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {"url": url, "key": file.name, "bytes": file.size},
    }
