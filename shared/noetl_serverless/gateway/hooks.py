"""/hooks/{trigger}: signed webhooks, from anybody. The control plane verifies them, since it has the secrets."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import MEDIA_TYPE, InvalidRequest, NotFound, Problem
from ..limits import EVENT_BYTES, KIB
from .at_once import AtOnce
from .body import read_bytes
from .control_plane import BadGateway, ControlPlane
from .proxy import request_headers

MAX_PATH_CHARACTERS: Final = 700
MAX_HEADER_BYTES: Final = 32 * KIB
# one of them is signed in one of these ways
SIGNATURES: Final = ("webhook-signature", "x-hub-signature-256", "stripe-signature")
# what the control plane says of a webhook that is not right; any other 401 is about this gateway
REFUSED: Final = "webhook.refused"


class UnsignedWebhook(Problem):
    status, code, title = 401, REFUSED, "The webhook is refused"

    def __init__(self) -> None:
        super().__init__(f"The webhook has no signature: it must have one of the headers {', '.join(SIGNATURES)}")


class Hooks:
    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._at_once = AtOnce("webhooks")

    def routes(self) -> list[Route]:
        return [Route("/hooks/{trigger:path}", self.receive, methods=["POST"])]

    async def receive(self, request: Request) -> Response:
        """What costs nothing is checked first, so that a flood of anything else costs little."""
        trigger = request.path_params["trigger"]
        if len(trigger) > MAX_PATH_CHARACTERS or any(part in ("", ".", "..") for part in trigger.split("/")):
            raise NotFound("There is no such webhook")
        if not any(name in request.headers for name in SIGNATURES):
            raise UnsignedWebhook
        if sum(len(name) + len(value) for name, value in request.headers.raw) > MAX_HEADER_BYTES:
            raise InvalidRequest(f"The headers are larger than {MAX_HEADER_BYTES} bytes")
        # whoever is slow to send it takes no place from the others
        body = await read_bytes(request, EVENT_BYTES)
        with self._at_once.one():
            return await self._forward(request, trigger, body)

    async def _forward(self, request: Request, trigger: str, body: bytes) -> Response:
        answer = await self._control_plane.forward(
            "POST",
            "/api/hooks/" + quote(trigger, safe="/"),
            headers=[(name, value) for name, value in request_headers(request) if name != "content-length"],
            body=body,
            user="",
        )
        try:
            content = await answer.read()
        finally:
            answer.release()
        if answer.status == 401 and not _is_refusal(content):
            raise BadGateway("The control plane does not accept this gateway's service token")
        if answer.content_type == MEDIA_TYPE:
            content = _of_this_request(content, request.scope["path"])
        return Response(content, answer.status, media_type=answer.content_type)


def _is_refusal(content: bytes) -> bool:
    return _problem(content).get("code") == REFUSED


def _of_this_request(content: bytes, path: str) -> bytes:
    """A problem of the control plane, about the path that the sender knows."""
    problem = _problem(content)
    return orjson.dumps({**problem, "instance": path}) if "instance" in problem else content


def _problem(content: bytes) -> dict[str, Any]:
    try:
        problem = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}
