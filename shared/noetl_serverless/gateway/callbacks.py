"""/callbacks/{token}: URLs by which somebody without an account answers what an execution waits for.

The control plane verifies them, since it has the key; this passes the token on in a body, where no log has it. A GET
never answers, because what scans mails and previews links follows them.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ..errors import InvalidRequest, NotFound, Problem
from ..limits import INLINE_BYTES, KIB
from ..telemetry.http import as_problem, problem_response
from .at_once import AtOnce
from .body import read_bytes
from .callback_page import HEADERS, answered_page, problem_page, question_page
from .control_plane import ControlPlane

PATH: Final = "/callbacks/"
MAX_TOKEN_CHARACTERS: Final = 4000
# quoted in a form, data may take three times as much
MAX_BODY_BYTES: Final = 3 * INLINE_BYTES + KIB
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
TEXT: Final = "text/plain"
# the shortest integer that may need more than 64 bits
_LONG: Final = re.compile(r"\d{19}")


class Callbacks:
    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._at_once = AtOnce("answers")

    def routes(self) -> list[Route]:
        return [Route(f"{PATH}{{token}}", self.receive, methods=["GET", "POST"])]

    async def receive(self, request: Request) -> Response:
        """A page where the client accepts one, otherwise JSON."""
        as_page = _accepts_pages(request)
        body = b""
        try:
            if request.method == "POST":
                body = await read_bytes(request, MAX_BODY_BYTES)
                found = await self._answer(request, body)
            else:
                found = await self._read(request)
        except Exception as error:
            response = await self._page_of(error, request, body) if as_page else problem_response(error, request.scope)
        else:
            if as_page:
                response = HTMLResponse(answered_page(found) if request.method == "POST" else question_page(found))
            else:
                response = Response(orjson.dumps(found), media_type=JSON)
        response.headers.update(HEADERS)
        return response

    async def _read(self, request: Request) -> Any:
        return await self._call("/api/callbacks/read", {"token": _token(request)})

    async def _answer(self, request: Request, body: bytes) -> Any:
        token = _token(request)
        data = _data(request, body)
        return await self._call("/api/callbacks/answer", {"token": token, "data": data})

    async def _page_of(self, error: Exception, request: Request, body: bytes) -> Response:
        # the same log line and the same status
        response = problem_response(error, request.scope)
        problem: Problem = as_problem(error)
        is_refused = problem.status == InvalidRequest.status
        page = problem_page(problem.to_dict(), again=is_refused)
        if is_refused and request.method == "POST":
            try:
                # once more the question, with what was typed
                question = await self._read(request)
            except Exception:
                return HTMLResponse(page, response.status_code)
            page = question_page(question, typed=_typed(request, body), fault=problem.detail)
        return HTMLResponse(page, response.status_code)

    async def _call(self, path: str, body: Any) -> Any:
        with self._at_once.one():
            return await self._control_plane.post(path, body)


def _token(request: Request) -> str:
    """What cannot be a token costs no call of the control plane."""
    token = str(request.path_params["token"])
    if len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2 or not token.isascii():
        raise NotFound("This is no callback URL; copy all of it")
    return token


def _data(request: Request, body: bytes) -> Any:
    """The data of the signal: of the page's form, or a JSON or text body. Raises InvalidRequest."""
    media_type = _media_type(request)
    try:
        text = body.decode()
        if media_type == FORM:
            return _of_form(text)
        if media_type == JSON:
            return _parsed(text)
    except ValueError as error:
        raise InvalidRequest(f"The body cannot be read as {media_type}: {error}") from None
    if media_type == TEXT:
        return text
    if not body:
        return None
    raise InvalidRequest(f"Send the body as {JSON}, {TEXT} or {FORM}")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _fields(text: str) -> dict[str, str]:
    """Of a form. Raises ValueError."""
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True, max_num_fields=10).items()}


def _typed(request: Request, body: bytes) -> dict[str, str]:
    """What a form had, if it can be read."""
    try:
        return _fields(body.decode()) if _media_type(request) == FORM else {}
    except ValueError:
        return {}


def _of_form(text: str) -> Any:
    fields = _fields(text)
    if fields.keys() <= {"decision", "comment"} and fields.get("decision") in ("approve", "reject"):
        comment = fields.get("comment", "").strip()
        return {"approved": fields["decision"] == "approve", **({"comment": comment} if comment else {})}
    if fields.keys() == {"value"}:
        return _value(fields["value"])
    raise ValueError("a form has either decision, approve or reject, with a comment if there is one; or value")


def _value(text: str) -> Any:
    """JSON, or the text itself. Raises InvalidRequest for none, and for a text that was to be JSON: the one answer of
    the URL must not be spent on it."""
    stripped = text.strip()
    if not stripped:
        raise InvalidRequest("There is no value. Nothing has been answered yet; to answer with none, send null")
    try:
        return _parsed(text)
    except orjson.JSONDecodeError as error:
        if stripped[0] in '{["':
            raise InvalidRequest(
                f"The value begins as JSON and is none: {error}. Nothing has been answered yet; mend it, or begin a "
                "text with another character"
            ) from None
        return text


def _parsed(text: str) -> Any:
    """Raises ValueError, also for what the control plane would not take."""
    value = orjson.loads(text)
    try:
        # as it is passed on, one level deeper
        orjson.dumps([value])
        if _LONG.search(text):
            # orjson reads an integer of more than 64 bits as a float
            json.loads(text, parse_int=_integer)
    except (TypeError, RecursionError):
        raise ValueError("it is nested too deeply") from None
    return value


def _integer(digits: str) -> int:
    value = int(digits)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("an integer does not fit in 64 bits; send it as a string")
    return value


def _accepts_pages(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "").lower()
