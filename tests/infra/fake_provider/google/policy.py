"""One member of one role on something: its policy is read, changed and written back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..given import Given
from ..resource import State
from .api import Api, ApiError
from .resource import Resource, last, named, variables

_ATTEMPTS = 10
# conflict, and the precondition of an etag that is not the present one
_CONCURRENT = (409, 412)
_VERSION = 3


class Member(Resource):
    """A member with its role, and the condition under which it has it, is made anew by any change."""

    service: ClassVar[str]
    # of what has the policy, with the arguments that name it
    path: ClassVar[str]
    # with which method its policy is read
    reading: ClassVar[str] = "GET"
    # the parameter that asks for conditions, where the API wants one
    version_parameter: ClassVar[str | None] = None
    patterns = {
        "member": r"(?!deleted)(?:.+:.+|projectOwners|projectReaders|projectWriters|allUsers|allAuthenticatedUsers)",
        "role": r"(?:roles/|(?:projects|organizations)/[^/]+/roles/)[A-Za-z0-9_.]+",
    }

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "path"):
            cls.replace = (*variables(cls.path), "condition", "member", "role")

    def create(self, api: Api, want: Given) -> State:
        path = self._path(api, {name: want[name] for name in variables(self.path)})
        role, member, condition = want["role"], want["member"], _condition(want)

        def add(bindings: list[dict[str, Any]]) -> None:
            binding = _binding(bindings, role, condition)
            if binding is None:
                binding = {"role": role, "members": [], **({"condition": condition} if condition else {})}
                bindings.append(binding)
            if member not in binding["members"]:
                binding["members"].append(member)

        self._change(api, path, add)
        parts = [self.resource_id(path), role, member, *_words(condition)]
        return {"id": "/".join(parts), **named(self.path, path)}

    def read(self, api: Api, state: State) -> State | None:
        path = self._path(api, state)
        policy = self.read_policy(api, path)
        condition = _condition_of(state)
        binding = _binding(policy.get("bindings", []), state["role"], condition)
        if binding is None or state["member"] not in binding["members"]:
            return None
        return {
            **named(self.path, path),
            "id": state["id"],
            "etag": policy.get("etag", ""),
            "member": state["member"],
            "role": binding["role"],
            "condition": [condition] if condition else [],
        }

    def delete(self, api: Api, state: State) -> None:
        condition = _condition_of(state)

        def remove(bindings: list[dict[str, Any]]) -> None:
            binding = _binding(bindings, state["role"], condition)
            if binding is not None:
                binding["members"] = [one for one in binding["members"] if one != state["member"]]
            bindings[:] = [one for one in bindings if one["members"]]

        self._change(api, self._path(api, state), remove)

    def same(self, path: str, one: Any, other: Any) -> bool:
        # the name of what has the policy may be its whole path
        if path in variables(self.path) and one and other:
            return last(one) == last(other)
        return super().same(path, one, other)

    def resource_id(self, path: str) -> str:
        """How the provider's id for the member begins."""
        return path

    def request(self) -> dict[str, Any]:
        """The body with which a policy is read, where that is a POST."""
        return {}

    def read_policy(self, api: Api, path: str) -> dict[str, Any]:
        query = {self.version_parameter: str(_VERSION)} if self.version_parameter else {}
        body = self.request() if self.reading == "POST" else None
        return api(self.reading, self.service, f"{path}:getIamPolicy", body, query)

    def write_policy(self, api: Api, path: str, policy: Mapping[str, Any]) -> None:
        api("POST", self.service, f"{path}:setIamPolicy", {"policy": policy})

    def _path(self, api: Api, values: Mapping[str, Any]) -> str:
        """Of what has the policy; its last name may be given as the whole path."""
        names = variables(self.path)
        if "/" in values[names[-1]]:
            return str(values[names[-1]])
        defaults = {"project": api.project, "location": api.region}
        return self.path.format_map({name: values[name] or defaults[name] for name in names})

    def _change(self, api: Api, path: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
        with api.alone(f"{self.service} {path}"):
            for attempt in range(1, _ATTEMPTS + 1):
                policy = self.read_policy(api, path)
                bindings = policy.setdefault("bindings", [])
                change(bindings)
                try:
                    return self.write_policy(api, path, {**policy, "version": _VERSION})
                except ApiError as error:
                    if error.status not in _CONCURRENT or attempt == _ATTEMPTS:
                        raise
                time.sleep(random.uniform(0, 0.05 * 2**attempt))


def _binding(bindings: list[dict[str, Any]], role: str, condition: Mapping[str, str]) -> dict[str, Any] | None:
    return next((one for one in bindings if one["role"] == role and _plain(one.get("condition")) == condition), None)


def _condition(want: Given) -> dict[str, str]:
    block = want.block("condition")
    return {} if block is None else _plain({name: block[name] for name in ("title", "description", "expression")})


def _condition_of(state: Mapping[str, Any]) -> dict[str, str]:
    return _plain(state["condition"][0]) if state.get("condition") else {}


def _plain(condition: Mapping[str, str] | None) -> dict[str, str]:
    return {name: text for name, text in (condition or {}).items() if text}


def _words(condition: Mapping[str, str]) -> list[str]:
    """What of an id tells members with different conditions apart."""
    return [condition.get(name, "") for name in ("title", "description", "expression")] if condition else []
