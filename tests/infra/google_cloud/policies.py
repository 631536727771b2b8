"""IAM policies of resources: kept, read, and asked whether a caller may do something."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.iam.v1 import iam_policy_pb2, policy_pb2

from . import conditions
from .conditions import Target
from .errors import Aborted, InvalidArgument, PermissionDenied, Unimplemented
from .identities import Caller, member_of
from .messages import Form, Message, copy, parse, render
from .project import Project
from .roles import PERMISSIONS
from .routes import Answer, Call, Route

EVERYBODY = "allUsers"
_SIGNED_IN = "allAuthenticatedUsers"
# of a policy that nobody has set
_NO_ETAG = b"\x00\x40\x01"
_VERSION_WITH_CONDITIONS = 3
_POLICY = Form(policy_pb2.Policy, "version etag bindings.role bindings.members bindings.condition")
_MEMBERS_OF_A_PROJECT = ("projectOwner:", "projectEditor:", "projectViewer:")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource that has policies: `permissions` is what precedes `.getIamPolicy`, `roles` the services whose
    roles can be granted on it."""

    permissions: str
    roles: tuple[str, ...]
    has_conditions: bool = False


def parse_policy(document: Any) -> Message:
    """Raises InvalidArgument, Unimplemented."""
    return _POLICY.parse(document)


class Policies:
    """By the full name of the resource. A policy of the project counts for all that is in it."""

    def __init__(self, project: Project, account_exists: Callable[[str], bool]) -> None:
        self._project = project
        self._account_exists = account_exists
        self._policies: dict[str, Message] = {}

    # -- who may do what

    def check(self, caller: Caller, permission: str, resource: str, target: Target | None = None) -> None:
        """Raises PermissionDenied. `target`: what conditions look at, by default the resource."""
        if caller.is_admin or self.allows(caller.email, permission, resource, target):
            return
        raise PermissionDenied(
            f"Permission '{permission}' denied on resource '{(target or Target(resource)).name}' (or it may not exist) "
            f"for {caller.email}."
        )

    def allows(self, email: str | None, permission: str, resource: str, target: Target | None = None) -> bool:
        """Whether that account may; without one, whether anybody may."""
        members = {EVERYBODY} if email is None else {EVERYBODY, _SIGNED_IN, member_of(email)}
        seen = target or Target(resource)
        return any(
            members.intersection(binding.members)
            and permission in PERMISSIONS[binding.role]
            and (not binding.condition.expression or conditions.holds(binding.condition.expression, seen))
            for name in (resource, self._project.name)
            for binding in self._policy(name).bindings
        )

    # -- the policies themselves

    def get(self, resource: str, requested_version: int = 1) -> Message:
        policy = copy(self._policy(resource))
        if requested_version < policy.version:
            raise Unimplemented("This policy has conditions: ask for it with requestedPolicyVersion 3.")
        return policy

    def set(self, resource: str, kind: Kind, policy: Message) -> Message:
        """Raises Aborted if it has changed since it was read, InvalidArgument."""
        stored = self._policy(resource)
        if policy.etag and policy.etag != stored.etag:
            raise Aborted(
                "There were concurrent policy changes. Please retry the whole read-modify-write with exponential "
                "backoff."
            )
        for binding in policy.bindings:
            self._check_binding(binding, kind, policy.version)
        kept = policy_pb2.Policy(bindings=[binding for binding in policy.bindings if binding.members])
        has_conditions = any(binding.HasField("condition") for binding in kept.bindings)
        kept.version = _VERSION_WITH_CONDITIONS if has_conditions else 1
        kept.etag = secrets.token_bytes(8)
        self._policies[resource] = kept
        return copy(kept)

    def drop(self, resource: str) -> None:
        self._policies.pop(resource, None)

    def forget_account(self, email: str, unique_id: str) -> None:
        """A new account of the same address has none of the roles of the deleted one."""
        for policy in self._policies.values():
            for binding in policy.bindings:
                for index, member in enumerate(binding.members):
                    if member == member_of(email):
                        binding.members[index] = f"deleted:{member}?uid={unique_id}"

    def bindings(self) -> dict[str, list[dict[str, Any]]]:
        """All there are, by resource."""
        return {name: render(policy)["bindings"] for name, policy in self._policies.items() if policy.bindings}

    def _policy(self, resource: str) -> Message:
        return self._policies.get(resource) or policy_pb2.Policy(version=1, etag=_NO_ETAG)

    def _check_binding(self, binding: Message, kind: Kind, version: int) -> None:
        if binding.role not in PERMISSIONS:
            raise InvalidArgument(f"Role {binding.role} is not one that the stand-in knows; roles.py has those.")
        service = binding.role.removeprefix("roles/").partition(".")[0]
        if kind.roles and service not in kind.roles:
            raise InvalidArgument(f"Role {binding.role} is not supported for this resource.")
        if binding.HasField("condition"):
            if not kind.has_conditions:
                raise Unimplemented("The stand-in evaluates conditions of buckets' policies only.")
            if version != _VERSION_WITH_CONDITIONS:
                raise InvalidArgument("A policy with conditions must have version 3.")
            if not binding.condition.title:
                raise InvalidArgument("A condition must have a title.")
            conditions.check(binding.condition.expression)
        for member in binding.members:
            self._check_member(member)

    def _check_member(self, member: str) -> None:
        if member in (EVERYBODY, _SIGNED_IN) or member.startswith(("deleted:", *_MEMBERS_OF_A_PROJECT)):
            return
        kind, _, email = member.partition(":")
        if kind == "group" or kind == "domain":
            raise Unimplemented(f"The stand-in knows no groups and domains: {member}.")
        if kind not in ("user", "serviceAccount") or "@" not in email:
            raise InvalidArgument(f"The member {member} is of an unknown type.")
        if member != member_of(email):
            raise InvalidArgument(f"{member}: the address does not belong to a {kind}.")
        if kind == "serviceAccount" and not self._account_exists(email):
            raise InvalidArgument(f"Service account {email} does not exist.")

    # -- the methods that the services have in common

    def routes(
        self,
        service: str,
        template: str,
        kind: Kind,
        exists: Callable[[str], object],
        *,
        get_by: str = "GET",
        options_in_query: bool = True,
    ) -> Iterable[Route]:
        """getIamPolicy (by GET or POST, its options in the query or the body) and setIamPolicy. `template` has a
        variable `resource`; `exists` raises NotFound."""

        def answering(permission: str, answer: Callable[[Call, str], Awaitable[Message]]) -> Any:
            async def handle(call: Call) -> Answer:
                resource = call.path["resource"]
                self.check(call.caller, f"{kind.permissions}.{permission}", resource)
                exists(resource)
                return render(await answer(call, resource))

            return handle

        async def get(call: Call, resource: str) -> Message:
            if options_in_query:
                await call.expect_no_body()
                return self.get(resource, int(call.query.get("options.requestedPolicyVersion") or 1))
            given = parse(iam_policy_pb2.GetIamPolicyRequest, await call.document())
            return self.get(resource, given.options.requested_policy_version or 1)

        async def set_(call: Call, resource: str) -> Message:
            document = await call.document()
            if unknown := document.keys() - {"policy", "resource"}:
                raise Unimplemented(f"The stand-in does not implement {', '.join(sorted(unknown))} of setIamPolicy.")
            return self.set(resource, kind, parse_policy(document.get("policy") or {}))

        query = ["options.requestedPolicyVersion"] if options_in_query else []
        return [
            Route(service, "getIamPolicy", get_by, f"{template}:getIamPolicy", answering("getIamPolicy", get), query),
            Route(service, "setIamPolicy", "POST", f"{template}:setIamPolicy", answering("setIamPolicy", set_)),
        ]
