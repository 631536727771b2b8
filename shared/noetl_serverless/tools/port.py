"""The port that every tool kind implements.

A tool is a class with a pydantic `config`, which is its documentation and its JSON Schema, and an async `run`
that turns a `ToolCall` into a `ToolOutcome`. A failure is a `ToolFailure` that is raised, or an outcome with an
error; other exceptions become `tool.internal`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol
from urllib.parse import quote, unquote

from pydantic import BaseModel

from ..limits import INLINE_BYTES
from ..protocol import ChildRequest, WaitRequest
from ..telemetry.secret_forms import MIN_CHARACTERS, Secret, number_of
from ..telemetry.secret_texts import SecretTexts
from .fair_queue import NO_SHARE, Share

if TYPE_CHECKING:
    from ..tables.json_text import JsonText
    from ..tables.mapped import MappedFile
    from ..tables.sealed import NewFiles
    from .python_pool import PythonPool

# fields of credentials that are names, not secrets, and that an error message needs to make sense
_PUBLIC = frozenset(
    {
        "host",
        "port",
        "user",
        "username",
        "database",
        "dbname",
        "sslmode",
        "type",
        "header",
        "name",
        "param",
        "in",
        "sslrootcert",
        # of the response of a token endpoint
        "token_type",
        "scope",
        *("expires_in", "expires_at", "expires_on", "expires", "exp", "ext_expires_in", "refresh_expires_in"),
        *("refresh_token_expires_in", "not_before", "not-before-policy", "nbf", "iat", "issued_at", "created_at"),
        "region",
        "audience",
        # of the key file of a service account of Google
        *("project_id", "client_email", "private_key_id", "universe_domain", "auth_uri", "token_uri"),
        *("auth_provider_x509_cert_url", "client_x509_cert_url"),
    }
)
# fields that are sent together, as `user:password` in base64, and each of them quoted to a token endpoint
_PAIRS = ((("client_id",), ("client_secret",)), (("username", "user"), ("password",)))


# in a URL such as that of a database
_PASSWORD = re.compile(r"\w[\w.+-]{0,30}://[^/?#@:]*:([^/?#@]{3,})@")


@dataclass(frozen=True, slots=True)
class Credential:
    """A stored credential; `data` is secret and absent from the repr."""

    name: str
    type: str
    data: Mapping[str, Any] = field(repr=False)

    def secrets(self) -> Iterator[Secret]:
        """Its texts and numbers that have to be masked, at any depth, and what HTTP sends instead of a user and a
        password."""
        yield from _secrets(self.data)
        for users, passwords in _PAIRS:
            for pair in product(users, passwords):
                user, password = (str(self.data.get(name) or "") for name in pair)
                if user and password:
                    yield basic(user, password)
                    yield basic(quote(user, safe="", errors="replace"), quote(password, safe="", errors="replace"))

    def mask(self, text: str) -> str:
        """`text` with every secret of this credential replaced, in all its forms."""
        return SecretTexts(self.secrets()).text(text, may_be_cut=True)


def basic(user: str, password: str) -> str:
    """What HTTP Basic authentication sends."""
    return base64.b64encode(f"{user}:{password}".encode(errors="replace")).decode()


def _secrets(value: Any) -> Iterator[Secret]:
    match value:
        case str() if len(value) >= MIN_CHARACTERS:
            yield value
            if (found := _PASSWORD.match(value)) is not None:
                yield from (found[1], unquote(found[1]))
        case int() | float() if number_of(value) is not None:
            yield value
        case Mapping():
            for key, member in value.items():
                if key not in _PUBLIC or isinstance(member, Mapping | list):
                    yield from _secrets(member)
        case list():
            for member in value:
                yield from _secrets(member)


# of a call and its context there is one for each item of a loop, and to make what is frozen takes three times as long
@dataclass(slots=True)
class ToolCall:
    """One task to run: `config` is rendered, `input` is the step's input overlaid with the task's own; `timeout` is
    in seconds. `context`: what code reads of the execution; None if it reads nothing of it."""

    kind: str
    name: str
    config: dict[str, Any]
    _: KW_ONLY
    input: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    context: Mapping[str, Any] | None = None
    # whether there may be tables in the input and the configuration
    has_tables: bool = False
    # the JSON of large inputs, as far as it is in files, by their names
    texts: Mapping[str, JsonText] | None = None


def _in_memory() -> NewFiles:
    # the other functions know the port, and never open one
    from ..tables.sealed import IN_MEMORY

    return IN_MEMORY


@dataclass(slots=True)
class ToolContext:
    """The context of a call, and what the worker provides to it."""

    execution_id: str
    command_id: str
    step: str
    attempt: int
    idempotency_key: str
    # raises KeyError or errors.Problem when there is none of that name
    credential: Callable[[str], Awaitable[Credential]]
    python: PythonPool
    scratch: Path
    allow_private_http: bool = False
    # entered while the call waits for its turn, which is not part of its run time
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    # the calls of one playbook, by the hash of its text, share their turns
    share: Share = NO_SHARE
    # where those of tables are opened
    files: NewFiles = field(default_factory=_in_memory)
    # a result of more bytes of JSON goes by reference
    inline_bytes: int = INLINE_BYTES


@dataclass(slots=True)
class ToolOutcome:
    """The envelope: `extra` holds http, pg or py; `meta` what is worth keeping but is not data (stdout). `stored`: the
    data is in its stored form already (see playbook.values), and nothing else refers to it; `written`: the file that
    has it as JSON, if there is one. The data, or one of its fields, may be a `tables.table.Table`."""

    status: Literal["ok", "error"]
    data: Any = None
    error: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    # what the command waits for; it is parked until then
    child: ChildRequest | None = None
    wait: WaitRequest | None = None
    stored: bool = False
    written: MappedFile | None = None


class Tool(Protocol):
    """One whose class has a true `takes_tables` gets each `tables.table.Table` of a call as it is, others a list of its
    rows."""

    config: ClassVar[type[BaseModel]]

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome: ...

    async def close(self) -> None:
        """Release what is kept between calls; the tool can be used again afterwards."""
        ...


class ToolFailure(Exception):
    """Raised inside a tool to end the call with an error envelope."""

    def __init__(self, kind: str, code: str, message: str, *, retryable: bool = False, **fields: Any) -> None:
        super().__init__(message)
        self.error = {"kind": kind, "code": code, "retryable": retryable, "message": message, **fields}

    def outcome(self, **parts: Any) -> ToolOutcome:
        return ToolOutcome("error", error=self.error, **parts)


async def credential_named(context: ToolContext, kind: str, name: str) -> Credential:
    """The credential; ToolFailure `credential.missing` when there is none of that name."""
    from ..errors import Problem

    try:
        return await context.credential(name)
    except (KeyError, Problem) as error:
        if isinstance(error, Problem) and error.status != 404:
            message = f"{kind}: credential {name!r}: {error.detail}"
        else:
            message = (
                f"{kind}: there is no credential {name!r}; store one with: noetls credential set {name} --type TYPE"
            )
        retryable = isinstance(error, Problem) and error.status >= 500
        raise ToolFailure("credential", "credential.missing", message, retryable=retryable) from None
