"""/api/auth/*: sign in, check whether a session is valid and what it allows, sign out."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import NotFound, Unauthenticated
from .authenticate import COOKIE, refuse_forgery, token_of
from .body import read_json
from .roles import Permission, allows, role_for_permission
from .sessions import Session, Sessions
from .sign_in import SignIn

_MAX_BODY_BYTES = 64 * 1024


class Duration(BaseModel):
    session_duration_hours: float = Field(default=8.0, gt=0, le=24 * 365)


class Access(BaseModel):
    playbook_path: str = Field(min_length=1, max_length=1024)
    permission_type: Permission


class AuthRoutes:
    def __init__(self, sessions: Sessions, sign_in: SignIn | None) -> None:
        self._sessions = sessions
        self._sign_in = sign_in

    def routes(self) -> list[Route]:
        return [
            Route("/api/auth/login", self.login, methods=["POST"]),
            Route("/api/auth/validate", self.validate, methods=["POST"]),
            Route("/api/auth/check-access", self.check_access, methods=["POST"]),
            Route("/api/auth/logout", self.logout, methods=["POST"]),
        ]

    async def login(self, request: Request) -> Response:
        if self._sign_in is None:
            raise NotFound("Sign-in is not configured on this gateway: set an OIDC issuer and audience")
        body = await read_json(request, _MAX_BODY_BYTES)
        duration = Duration.model_validate({k: v for k, v in body.items() if k == "session_duration_hours"})
        user = await self._sign_in.sign_in(body)
        token, session = await self._sessions.open(user, duration.session_duration_hours * 3600)
        answer = {
            "status": "authenticated",
            "session_token": token,
            "user": user.to_dict(),
            "expires_at": session.expires,
            "message": "Signed in",
        }
        response = JSONResponse(answer, headers={"cache-control": "no-store"})
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        response.set_cookie(COOKIE, token, secure=secure, httponly=True, samesite="lax")
        return response

    async def validate(self, request: Request) -> Response:
        session, message = await self._look(request, await read_json(request, _MAX_BODY_BYTES))
        if session is None:
            return JSONResponse({"valid": False, "message": message})
        answer = {"valid": True, "user": session.user.to_dict(), "expires_at": session.expires, "message": message}
        return JSONResponse(answer)

    async def check_access(self, request: Request) -> Response:
        body = await read_json(request, _MAX_BODY_BYTES)
        access = Access.model_validate({k: body[k] for k in Access.model_fields if k in body})
        session, message = await self._look(request, body)
        answer: dict[str, Any] = {"allowed": False, **access.model_dump(), "message": message}
        if session is not None:
            needed = role_for_permission(access.permission_type)
            allowed = allows(session.user.roles, needed)
            message = "Allowed" if allowed else f"This requires the role {needed}"
            answer.update(allowed=allowed, user=session.user.to_dict(), message=message)
        return JSONResponse(answer)

    async def logout(self, request: Request) -> Response:
        """Ends the session named in the body, or the one that the request itself carries."""
        body = await read_json(request, _MAX_BODY_BYTES)
        await self._sessions.close(_token(request, body))
        response = JSONResponse({"status": "logged_out", "message": "Signed out"})
        response.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return response

    async def _look(self, request: Request, body: dict[str, Any]) -> tuple[Session | None, str]:
        try:
            return await self._sessions.find(_token(request, body)), "The session is valid"
        except Unauthenticated as error:
            return None, error.detail


def _token(request: Request, body: dict[str, Any]) -> str:
    token = body.get("session_token")
    if isinstance(token, str):
        return token
    presented_token = token_of(request)
    if presented_token is None:
        return ""
    if presented_token.by_cookie:
        refuse_forgery(request)
    return presented_token.token
