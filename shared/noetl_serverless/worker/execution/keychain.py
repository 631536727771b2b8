"""The secrets of one command: resolved when a tool needs them, and masked in everything that the tool gives back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any

from ...errors import Problem, Unsupported
from ...playbook.bounds import weight_of
from ...playbook.keychain import FETCHED
from ...playbook.plan import KeychainEntry
from ...playbook.template import SqlTemplate, Template, TemplateError, Tree
from ...playbook.views import SecretName, SecretView, View
from ...protocol import CallbackRequest, ClaimedCommand, FetchedSecret, SecretAnswer, SecretRequest
from ...tables.listed import has_table
from ...tables.sealed import IN_MEMORY
from ...telemetry.masking import masking
from ...telemetry.secret_texts import SecretTexts, TooManySecrets
from ...tools.port import Credential, ToolFailure
from .errors import with_identity
from .refusals import RefusalKey
from .secret_sources import DENIED, UNAVAILABLE, Fetched, Sources, secret_failure
from .toolbox import SecretCache, Toolbox, context_of

logger = logging.getLogger(__name__)

# a command asks again after this long, since a secret may have been replaced
KEEP_SECONDS = 30.0
# how long it waits for another worker that fetches the same secret
WAIT_SECONDS = 120.0
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 2.0
# how long a fetch may take, with all its attempts; afterwards others may fetch
FETCH_SECONDS = 75.0
# for a last call while the command is being cancelled
LAST_CALL_SECONDS = 2.0
# larger values are masked in a thread, because it would block the event loop: some 300 KB of text
INLINE_WEIGHT = 5_000
# as are more secrets prepared: that takes some milliseconds
INLINE_BACKLOG = 4_000
# kinds of tools that send a credential only to a server which does not send it back. They mask it in what they report
# of a failure; their results, which are large, are not looked through for it
KEEPS_CREDENTIALS = frozenset({"postgres"})
# kinds whose values are not tokens: what they are for a tool that authenticates with them, it has to be told
NO_TOKENS = frozenset({"secret_manager", "static", "callback"})


@dataclass(frozen=True, slots=True)
class _Resolved:
    credential: Credential
    # by the monotonic clock
    until: float


class Secrets:
    def __init__(self, command: ClaimedCommand, entries: Mapping[str, KeychainEntry], toolbox: Toolbox) -> None:
        """`entries`: of the playbook. Without a cache in the toolbox nothing is resolved: templates get the names of
        the secrets."""
        self._command = command
        self._entries = entries
        self._toolbox = toolbox
        self._cache = toolbox.secrets
        self._known: dict[str, _Resolved] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._texts = SecretTexts()

    @property
    def any_used(self) -> bool:
        """Whether the command has used a secret so far."""
        return bool(self._texts)

    async def masked(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """The envelope with every secret in it replaced that this command has used so far. In what was cut to fit,
        which the data is not, a secret may be cut as well."""
        await self._prepared()
        data = output["data"]
        if has_table(data):
            from .masked_tables import masked_tables

            files = IN_MEMORY if self._toolbox.files is None else self._toolbox.files
            data = await asyncio.to_thread(masked_tables, data, self._texts, files)
        if weight_of(data, INLINE_WEIGHT) > INLINE_WEIGHT:
            data = await asyncio.to_thread(self._texts.masked_value, data)
        else:
            data = self._texts.masked_value(data)
        # what the envelope consists of, and what an error is, no secret changes: rules and arcs read it
        rest = {name: self._texts.tree(output[name], may_be_cut=True, keys=False) for name in ("meta", "extra")}
        error = output["error"]
        if error is not None:
            error = with_identity(self._texts.tree(error, may_be_cut=True, keys=False), error)
        return {**output, **rest, "error": error, "data": data}

    async def views(self, names: Iterable[str]) -> dict[str, View]:
        """The entries for templates. Raises ToolFailure `keychain.denied` or `keychain.unavailable`, and
        TemplateError."""
        return {name: await self._view(name) for name in sorted(names)}

    async def credential(self, name: str) -> Credential:
        """What a tool's `auth` names: an entry, otherwise a stored credential. Raises ToolFailure, and what the toolbox
        raises."""
        if self._cache is None or name not in self._entries:
            credential = await self._toolbox.fetch_credential(name)
            self._remember(credential)
            return credential
        return await self._entry_credential(name, self._cache)

    async def kept_credential(self, name: str) -> Credential:
        """As `credential`, for a tool that gives nothing of it back."""
        if self._cache is None or name not in self._entries:
            return await self._toolbox.fetch_credential(name)
        return await self._entry_credential(name, self._cache)

    async def _entry_credential(self, name: str, cache: SecretCache) -> Credential:
        try:
            return (await self._resolved(name, cache)).credential
        except TemplateError as error:
            raise secret_failure(self._entries[name], DENIED, await self._masked_text(error.message)) from None

    async def _view(self, name: str) -> View:
        if self._cache is None:
            # a URL that leads nowhere (RFC 2606), for code that takes it apart
            is_callback = self._entries[name].kind == "callback"
            return SecretView(name, callback_stand_in(name)) if is_callback else SecretName(name)
        return SecretView(name, (await self._resolved(name, self._cache)).credential.data)

    async def _resolved(self, name: str, cache: SecretCache) -> _Resolved:
        # the items of a loop that run at once need the same secrets
        async with self._locks[name]:
            known = self._known.get(name)
            if known is None or known.until <= time.monotonic():
                known = self._known[name] = await self._resolve(self._entries[name], cache)
            return known

    async def _resolve(self, entry: KeychainEntry, cache: SecretCache) -> _Resolved:
        ttl, type_ = KEEP_SECONDS, entry.kind if entry.kind in NO_TOKENS else "bearer"
        try:
            if entry.kind == "credential":
                credential = await self._source(entry).stored()
                type_, data = credential.type, credential.data
            elif entry.kind in FETCHED:
                found = await self._fetched(entry, cache)
                data, ttl = found.data, found.ttl
            elif entry.kind == "callback":
                data = await self._callback(entry, cache)
            else:
                data = await self._source(entry).literal()
            credential = Credential(entry.name, type_, data)
            self._remember(credential, entry)
        except ToolFailure as failure:
            failure.error["message"] = await self._masked_text(failure.error["message"])
            raise
        await self._prepared()
        return _Resolved(credential, time.monotonic() + min(ttl, KEEP_SECONDS))

    async def _callback(self, entry: KeychainEntry, cache: SecretCache) -> dict[str, Any]:
        command = self._command
        request = CallbackRequest(execution_id=command.execution_id, command_id=command.command_id, name=entry.name)
        try:
            return (await cache.callback_url(request)).model_dump()
        except Problem as problem:
            raise _refusal(entry, problem) from None

    def _source(self, entry: KeychainEntry) -> Sources:
        command = self._command
        # each fetch is a new one
        context = context_of(self._toolbox, command, f"keychain/{entry.name}/{token_hex(8)}")
        remember = partial(self._remember, entry=entry)
        return Sources(command, self._toolbox.load_tool, context, self.views, remember, entry)

    def _remember(self, credential: Credential, entry: KeychainEntry | None = None) -> None:
        """Mask its secrets from now on: in what the command reports, and in the logs of this process. Raises
        ToolFailure if they are too many. `entry`: that it belongs to."""
        secrets = list(credential.secrets())
        try:
            self._texts.add(secrets)
        except TooManySecrets as error:
            if entry is not None:
                raise secret_failure(entry, DENIED, str(error)) from None
            message = f"credential {credential.name!r}: {error}"
            raise ToolFailure("credential", "credential.unfit", message) from None
        for secret in secrets:
            masking.register(secret)

    async def _prepared(self) -> None:
        """Prepare masking what was remembered."""
        if self._texts.backlog > INLINE_BACKLOG:
            await asyncio.to_thread(self._texts.prepare)
            await asyncio.to_thread(masking.prepare)

    async def _masked_text(self, message: str) -> str:
        await self._prepared()
        return self._texts.text(message, may_be_cut=True)

    # -- through the cache

    async def _fetched(self, entry: KeychainEntry, cache: SecretCache) -> Fetched:
        key = {
            "execution_id": self._command.execution_id,
            "command_id": self._command.command_id,
            "name": entry.name,
            "inputs": digest_of(entry, self._entries, self._command),
        }
        deadline, pause = time.monotonic() + WAIT_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            refused = self._toolbox.refusals.message_of(_refusal_key(key))
            if refused is not None:
                raise ToolFailure("keychain", DENIED, refused)
            answer = await self._acquired(entry, cache, SecretRequest(**key))
            if answer.fetch is not None:
                return await self._fetch(entry, cache, key, answer)
            if answer.data is not None:
                return Fetched(answer.data, answer.seconds_left)
            if time.monotonic() >= deadline:
                message = f"another worker did not get its value within {WAIT_SECONDS:g} s"
                raise secret_failure(entry, UNAVAILABLE, message)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, MAX_PAUSE_SECONDS)

    async def _acquired(self, entry: KeychainEntry, cache: SecretCache, request: SecretRequest) -> SecretAnswer:
        try:
            return await cache.acquire_secret(request)
        except Problem as problem:
            raise _refusal(entry, problem) from None

    async def _fetch(
        self, entry: KeychainEntry, cache: SecretCache, key: Mapping[str, str], answer: SecretAnswer
    ) -> Fetched:
        """The new value; if it cannot be fetched, the one in `answer`, which is still valid."""
        assert answer.fetch is not None
        ended = FetchedSecret(**key, fetch=answer.fetch)
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                fetched = await self._source(entry).fetch()
                self._remember(Credential(entry.name, entry.kind, fetched.data), entry)
        except BaseException as error:
            with suppress(Problem, TimeoutError):
                async with asyncio.timeout(LAST_CALL_SECONDS):
                    await cache.store_secret(ended)
            if answer.data is not None and isinstance(error, ToolFailure | TimeoutError):
                logger.warning("the keychain entry %s could not be renewed: its value is still valid", entry.name)
                return Fetched(answer.data, answer.seconds_left)
            if isinstance(error, TimeoutError):
                raise secret_failure(entry, UNAVAILABLE, f"no answer within {FETCH_SECONDS:g} s") from None
            if isinstance(error, ToolFailure) and error.error["code"] == DENIED:
                self._toolbox.refusals.add(_refusal_key(key), await self._masked_text(error.error["message"]))
            raise
        try:
            await cache.store_secret(ended.model_copy(update={"data": dict(fetched.data), "ttl": fetched.ttl}))
        except Problem as problem:
            # others fetch it for themselves
            logger.warning("the keychain entry %s could not be cached: %s", entry.name, problem.detail)
        return fetched


def _refusal(entry: KeychainEntry, problem: Problem) -> ToolFailure:
    is_final = problem.status < 500 or isinstance(problem, Unsupported)
    return secret_failure(entry, DENIED if is_final else UNAVAILABLE, problem.detail)


def _refusal_key(key: Mapping[str, str]) -> RefusalKey:
    return key["execution_id"], key["name"], key["inputs"]


def callback_stand_in(name: str) -> dict[str, str]:
    """The fields of a callback where none is made: in tests and reruns."""
    token = f"keychain.{name}.token"
    url = f"https://callback.invalid/callbacks/{token}"
    return {"url": url, "token": token, "expires_at": "2100-01-01T00:00:00Z"}


def digest_of(
    entry: KeychainEntry,
    entries: Mapping[str, KeychainEntry],
    command: ClaimedCommand,
    found: dict[str, str] | None = None,
) -> str:
    """SHA-256 of all that a value is fetched from: of the entry as it is written, of the part of the workload that it
    reads, and of the entries that it needs. It depends on no secret value. `found`: digests of entries, by name."""
    found = {} if found is None else found
    if entry.name in found:
        return found[entry.name]
    workload = command.workload
    read: dict[str, Any] = {}
    for name, parts in entry.reads.items():
        if name == "workload":
            read |= {part: workload.get(part) for part in parts or workload}
        else:
            read[name] = command.execution_id if name == "execution_id" else workload.get(name)
    content = {
        "kind": entry.kind,
        "ttl": entry.ttl,
        "config": {key: _written(tree) for key, tree in entry.config.items()},
        "read": read,
        "needs": {name: digest_of(entries[name], entries, command, found) for name in entry.needs},
    }
    digest = found[entry.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return digest


def _written(tree: Tree) -> Any:
    if isinstance(tree, Template | SqlTemplate):
        return {"template": tree.source}
    if isinstance(tree, dict):
        return {"object": {key: _written(value) for key, value in tree.items()}}
    return [_written(value) for value in tree] if isinstance(tree, list) else tree
