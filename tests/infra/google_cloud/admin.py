"""`/_standin/...`: what tests see and do that Google offers nobody. For the administrator alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import InvalidArgument, PermissionDenied
from .identities import AccessTokens, Caller, member_of
from .policies import Policies
from .routes import Answer, Call, Handler, Route
from .service_accounts import ServiceAccounts

SERVICE = "_standin"


class Admin:
    """`resources`: how each kind of resource is listed by name."""

    def __init__(
        self,
        resources: Mapping[str, Callable[[], list[str]]],
        calls: Mapping[tuple[str, str], int],
        tokens: AccessTokens,
        accounts: ServiceAccounts,
        policies: Policies,
    ) -> None:
        self._resources = resources
        self._calls = calls
        self._tokens = tokens
        self._accounts = accounts
        self._policies = policies

    def routes(self) -> Iterable[Route]:
        yield admin_route("GET", "resources", self.list_resources)
        yield admin_route("GET", "policies", self.list_policies)
        yield admin_route("GET", "calls", self.count_calls)
        yield admin_route("POST", "tokens", self.issue_token)

    async def list_resources(self, call: Call) -> Answer:
        """Names, by kind: only kinds of which there are any."""
        named = {kind: sorted(names()) for kind, names in self._resources.items()}
        return {kind: names for kind, names in named.items() if names}

    async def list_policies(self, call: Call) -> Answer:
        return self._policies.bindings()

    async def count_calls(self, call: Call) -> Answer:
        counts: dict[str, dict[str, int]] = {}
        for (service, method), count in sorted(self._calls.items()):
            counts.setdefault(service, {})[method] = count
        return counts

    async def issue_token(self, call: Call) -> Answer:
        """An access token of a person or of a service account: `{"email"}` -> `{"accessToken"}`."""
        email = await given(call, "email")
        person = member_of(email).startswith("user:")
        caller = Caller(email, email) if person else self._accounts.caller(email)
        return {"accessToken": self._tokens.issue(caller)}


def admin_route(verb: str, path: str, handler: Handler) -> Route:
    """A route below /_standin."""

    async def as_admin(call: Call) -> Answer:
        if not call.caller.is_admin:
            raise PermissionDenied("This is for the administrator alone.")
        return await handler(call)

    return Route(SERVICE, path.partition("/")[0], verb, f"/_standin/{path}", as_admin)


async def given(call: Call, name: str) -> Any:
    """The one field of the body. InvalidArgument."""
    document = await call.document()
    if list(document) != [name]:
        raise InvalidArgument(f"The body must have {name!r} and nothing else.")
    return document[name]
