"""Completes a playbook when it is registered: with its scripts, from where they are kept, and with the tools of the
catalog that it calls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ..errors import Fault, InvalidPlaybook, NotFound
from ..limits import SCRIPT_BYTES
from ..playbook.document import Document
from ..playbook.grammar import AUTH_FIELDS
from ..playbook.load import read_playbook
from ..playbook.scripts import READ_SECONDS, InvalidScripts, Script, as_content, scripts_of, with_scripts
from ..ports import ResultStore

if TYPE_CHECKING:
    from .tool_definitions import Versions

# of one playbook
MAX_SCRIPTS: Final = 100
THREADS: Final = 8

# in every text that has something to be looked up: a script, a call of a tool of the catalog, the name of a credential
_LOOKED_UP: Final = re.compile(rf"script|kind[\"']?\s*:\s*[\"']?tool\b|{'|'.join(sorted(AUTH_FIELDS))}")

ReadCredential = Callable[[str], Awaitable[Mapping[str, Any]]]


class NotRead(Exception):
    """A script could not be read; the message says why."""


class ScriptReader:
    def __init__(
        self,
        objects: Callable[[str], ResultStore],
        *,
        allow_private_http: bool,
        result_url: str = "",
        credential: ReadCredential | None = None,
        catalog: Versions | None = None,
    ) -> None:
        """`objects`: what is below a URL such as s3://bucket, as this host may read it. `result_url`: where results and
        archives are, which whoever may register a playbook could read as scripts. `credential`: the fields of a stored
        one, by its name; raises NotFound. `catalog`: of the tools; without it, the text has those that it has."""
        self._objects = objects
        self._catalog = catalog
        self._credential = credential
        self._private_bucket = urlsplit(result_url).netloc
        self._allow_private_http = allow_private_http
        # of their own: servers that do not answer hold up nothing but other scripts
        self._threads = ThreadPoolExecutor(THREADS, "scripts")

    async def complete(self, text: str) -> str:
        """The text with the scripts that it names and does not contain yet, without those that it does not name, and
        with the tools of the catalog that it calls, as the catalog has them. Files cannot be read here. Raises
        InvalidPlaybook with a fault for each script and each tool that cannot be read."""
        if not _LOOKED_UP.search(text):
            return text
        # not needed by most requests
        from ..playbook.tool_calls import is_definition
        from .tool_definitions import ToolDefinitions

        document = await asyncio.to_thread(read_playbook, text)
        definitions = {place: content for place, content in document.scripts.items() if is_definition(place)}
        if self._catalog is not None:
            definitions = await ToolDefinitions(self._catalog).parts(document)
        named = list(scripts_of(document.root))
        by_location: dict[str, tuple[tuple[str | int, ...], Script]] = {}
        for path, script in named:
            by_location.setdefault(script.location, (path, script))
        if len(by_location) > MAX_SCRIPTS:
            raise InvalidPlaybook(f"the playbook names {len(by_location)} scripts, more than {MAX_SCRIPTS}")
        scripts = {name: content for name, content in document.scripts.items() if name in by_location}
        faults = [
            _fault(document, path, script, "another task reads it from elsewhere, or with other keys")
            for path, script in named
            if _origin(script) != _origin(by_location[script.location][1])
        ]
        for location, (path, script) in by_location.items():
            if location not in scripts and script.type != "file":
                try:
                    scripts[location] = await self._read(script)
                except NotRead as error:
                    faults.append(_fault(document, path, script, str(error)))
        if faults:
            raise InvalidPlaybook(str(faults[0]), faults=faults)
        scripts |= definitions
        return text if scripts == document.scripts else with_scripts(text, scripts)

    async def _read(self, script: Script) -> str:
        seconds = script.source.timeout or READ_SECONDS
        try:
            async with asyncio.timeout(seconds):
                if script.type == "http":
                    data = await self._read_http(script.location, seconds)
                elif script.source.auth is not None:
                    data = await self._read_with(script.source.auth, script, seconds)
                else:
                    data = await self._read_object(script.location)
            return as_content(script.location, data)
        except TimeoutError:
            raise NotRead(f"it took longer than {seconds:g} s") from None
        except InvalidScripts as error:
            raise NotRead(str(error)) from None

    async def _read_http(self, url: str, seconds: float) -> bytes:
        # not needed by most requests
        from .http_get import NotFetched, http_get

        read = partial(http_get, url, allow_private=self._allow_private_http, seconds=seconds, max_bytes=SCRIPT_BYTES)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except NotFetched as error:
            raise NotRead(str(error)) from None

    async def _read_with(self, name: str, script: Script, seconds: float) -> bytes:
        """With the keys of a stored credential."""
        # not needed by most requests
        from .http_get import NotFetched
        from .object_get import object_get

        self._check_bucket(script.location)
        if self._credential is None:
            raise NotRead("no credentials are stored here")
        try:
            data = await self._credential(name)
        except NotFound as error:
            raise NotRead(error.detail) from None
        except Exception as error:
            # nothing of it is told, as it may contain what is secret
            raise NotRead(f"the credential {name!r} cannot be read: {type(error).__name__}") from None
        read = partial(
            object_get,
            script.location,
            script.source,
            data,
            allow_private=self._allow_private_http,
            seconds=seconds,
            max_bytes=SCRIPT_BYTES,
        )
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except NotFetched as error:
            raise NotRead(str(error)) from None
        except TimeoutError:
            raise
        except Exception as error:
            raise NotRead(f"it cannot be read with the credential {name!r}: {type(error).__name__}") from None

    def _check_bucket(self, url: str) -> None:
        # whatever the scheme: a store may answer to both
        if urlsplit(url).netloc == self._private_bucket:
            raise NotRead("the bucket of results and archives holds no scripts: keep them in another one")

    async def _read_object(self, url: str) -> bytes:
        parts = urlsplit(url)
        self._check_bucket(url)
        try:
            store = await asyncio.to_thread(self._objects, f"{parts.scheme}://{parts.netloc}")
            return await store.get_range(parts.path.lstrip("/"), 0, SCRIPT_BYTES + 1)
        except KeyError:
            raise NotRead("there is no such object") from None
        except TimeoutError:
            raise
        except Exception as error:
            raise NotRead(f"it cannot be read from here: {type(error).__name__}: {str(error)[:500]}") from None


def _origin(script: Script) -> tuple[str | None, ...]:
    """Where an object is read from, and with what keys; a path and a URL of http say so themselves."""
    source = script.source
    return () if script.type in ("file", "http") else (source.endpoint, source.auth, source.region)


def _fault(document: Document, path: tuple[str | int, ...], script: Script, reason: str) -> Fault:
    return document.fault(f"the script '{script.location}': {reason}", (*path, "uri"), "playbook.script")
