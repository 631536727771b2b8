"""A server of tokens, and an API that takes them: it knows who fetched which token, and what each is used for."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from noetl_serverless.tools.noop import Noop
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolFailure, ToolOutcome

from .loop import Process

if TYPE_CHECKING:
    from .world import World

# how late a token may be used where things go wrong: a worker may have stood still since it rendered the call, and the
# time of a token counts from when it was stored, which may have needed several attempts. In seconds
LATE = 120.0
# the same where nothing goes wrong
PUNCTUAL = 2.0


@dataclass(frozen=True, slots=True)
class Token:
    """`at`: when it was issued, by the clock of the world; `execution_id`: for which it was fetched; `scope`: as its
    entry says."""

    text: str
    at: float
    lifetime: float
    execution_id: str
    scope: str


class Tokens:
    """Those that were issued, by their text; and how often one was asked for."""

    def __init__(self) -> None:
        self.issued: dict[str, Token] = {}
        self.requests = 0

    def issue(self, now: float, lifetime: float, execution_id: str, scope: str) -> Token:
        # the same texts in each world: what a process masks stays small
        text = f"t0ken-{len(self.issued) + 1:04}/secret"
        token = self.issued[text] = Token(text, now, lifetime, execution_id, scope)
        return token


class TokenServer(Noop):
    """kind: http, of one worker. `/token` issues one for `lifetime` seconds, `/use` takes one, and sends back what it
    was given."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        world = self._world
        await world.delay("wire_slow")
        if world.faults.strike("request_lost"):
            return _broken().outcome()
        address = urlsplit(call.config["url"])
        if address.path == "/token":
            world.tokens.requests += 1
            given = call.config["body"]
            lifetime = float(given["lifetime"])
            token = world.tokens.issue(world.loop.now, lifetime, context.execution_id, given["scope"])
            answer: dict[str, Any] = {"access_token": token.text, "token_type": "Bearer", "expires_in": int(lifetime)}
        else:
            header = await self._header(call, context)
            self._use(header.removeprefix("Bearer "), context.execution_id)
            encoded = base64.b64encode(header.encode()).decode()
            answer = {"header": header, "encoded": encoded, "n": parse_qs(address.query).get("n", ["0"])[0]}
            await asyncio.sleep(world.chance.random() / 10)
        if world.faults.strike("answer_lost"):
            return _broken().outcome()
        return ToolOutcome("ok", data={"status_code": 200, "headers": {}, "data": answer})

    async def _header(self, call: ToolCall, context: ToolContext) -> str:
        if "auth" in call.config:
            credential = await context.credential(call.config["auth"])
            return f"Bearer {credential.data['access_token']}"
        return str(call.config["headers"]["Authorization"])

    def _use(self, text: str, execution_id: str) -> None:
        world, token = self._world, self._world.tokens.issued.get(text)
        if token is None:
            world.log.broken("a token is used that nobody has issued", f"{execution_id} {text}")
            return
        if len({world.shared_by(token.scope, id) for id in (token.execution_id, execution_id)}) > 1:
            detail = f"{token.scope}: fetched for {token.execution_id}, used by {execution_id}"
            world.log.broken("a token is used outside of its scope", detail)
        late = world.loop.now - token.at - token.lifetime
        if late > (PUNCTUAL if world.calm else LATE):
            world.log.broken("a token is used after its end", f"{execution_id} {text} {late:.1f} s")


def _broken() -> ToolFailure:
    return ToolFailure("http", "http.connection", "the connection broke", retryable=True)
