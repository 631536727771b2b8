"""Google's paths, and one call of them."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from .errors import InvalidArgument
from .identities import Caller

# of every method: they change nothing but the form of the answer
_COMMON_QUERY = frozenset({"alt", "$alt", "prettyPrint"})
_VARIABLE = re.compile(r"\{(\w+)(?:=([^}]*))?\}")
_SEGMENT = "[^/:]+"

Answer = Mapping[str, Any] | web.StreamResponse
Handler = Callable[["Call"], Awaitable[Answer]]
# who sent a request
Identify = Callable[[web.Request], Caller]


@dataclass(frozen=True, slots=True)
class Call:
    """`path`: the variables of the route, decoded. The body is read by those who want one."""

    caller: Caller
    request: web.Request
    path: Mapping[str, str]

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    async def document(self) -> dict[str, Any]:
        """The body, a JSON object; none is an empty one. InvalidArgument."""
        body = await self.request.read()
        if not body:
            return {}
        try:
            document = json.loads(body)
        except ValueError as error:
            raise InvalidArgument(f"Invalid JSON payload received. {error}") from None
        if not isinstance(document, dict):
            raise InvalidArgument("Invalid JSON payload received. The body is not an object.")
        return document

    async def expect_no_body(self) -> None:
        if given := await self.document():
            raise InvalidArgument(f"Invalid JSON payload received. Unknown name {next(iter(given))!r}.")


@dataclass(frozen=True, slots=True)
class Route:
    """`template` as in Google's annotations: `/v1/{name=projects/*/secrets/*}:access`; `{object}` takes a whole
    segment, colons included. `caller`: for methods to which callers prove themselves otherwise than by an access token.
    """

    service: str
    method: str
    verb: str
    template: str
    handler: Handler
    query: Sequence[str] = ()
    caller: Identify | None = None
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", _pattern(self.template))

    def match(self, verb: str, path: str) -> dict[str, str] | None:
        """The variables in a path that is still encoded."""
        found = self.pattern.fullmatch(path) if verb == self.verb else None
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}

    def check_query(self, given: Mapping[str, str]) -> None:
        for name in given:
            if name not in _COMMON_QUERY and name not in self.query:
                raise InvalidArgument(
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                )


def _pattern(template: str) -> re.Pattern[str]:
    text, at = "", 0
    for variable in _VARIABLE.finditer(template):
        text += re.escape(template[at : variable.start()])
        inner = "[^/]+" if variable[2] is None else _SEGMENT.join(re.escape(part) for part in variable[2].split("*"))
        text += f"(?P<{variable[1]}>{inner})"
        at = variable.end()
    return re.compile(text + re.escape(template[at:]))


def page(items: Sequence[Any], query: Mapping[str, str], default: int = 100) -> tuple[list[Any], dict[str, str]]:
    """A page of them, and `nextPageToken` if there are more. InvalidArgument."""
    try:
        size = int(query.get("pageSize") or default) or default
        start = int(query.get("pageToken") or 0)
    except ValueError:
        raise InvalidArgument("The page size or the page token is not valid.") from None
    if size < 0 or start < 0:
        raise InvalidArgument("The page size or the page token is not valid.")
    more = {"nextPageToken": str(start + size)} if start + size < len(items) else {}
    return list(items[start : start + size]), more
