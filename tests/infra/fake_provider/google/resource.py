"""A resource of Google's APIs as the real provider's generator sees it: a path, and an object of the API."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, ClassVar

from .. import catalog, resource
from ..given import Given
from ..resource import State
from ..values import UNKNOWN, Block
from . import form
from .api import Api

# the members of an object that the provider adds to, and what stands for them in a state
_MERGED = {"effective_labels": "labels", "effective_annotations": "annotations"}
# of those, what is not sent itself
_OWN = ("annotations", "labels", "terraform_labels")
# seconds
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ProtectedFromDeletion(Exception):
    """deletion_protection is on in the state."""


@cache
def schemas() -> dict[str, Block]:
    return dict(catalog.schema("google")["resources"])


class Resource(resource.Resource[Api, Given]):
    """Whatever the schema calls computed, and the configuration does not say, is the API's."""

    # what the API fills where the configuration has nothing, though the schema does not call it computed
    left_open: ClassVar[Collection[str]] = ()

    @property
    def block(self) -> Block:
        return schemas()[self.type]

    def follows(self, path: str) -> bool:
        return path not in self.left_open

    def same(self, path: str, one: Any, other: Any) -> bool:
        # the API does not tell what is empty
        return super().same(path, one, other) or (other is None and one in ("", False, 0, [], {}))


class Rest(Resource):
    """POST to the collection, GET, PATCH with a mask, and DELETE."""

    # the name in the provider's argument for the endpoint: cloud_tasks
    service: ClassVar[str]
    # below the endpoint, with the arguments that name it; the provider's id for it as well
    path: ClassVar[str]
    # how the new one is named: the parameter with its short name, or None if the object has its whole name
    id_parameter: ClassVar[str | None] = None
    # what the API calls a path otherwise than in camel case
    names: ClassVar[Mapping[str, str]] = {}
    # whether a change says what of the object it is about
    masked: ClassVar[bool] = True
    # arguments for which the API has methods of their own
    apart: ClassVar[Collection[str]] = ()
    # arguments that are durations, which can be written in several ways
    durations: ClassVar[Collection[str]] = ()

    def plan(self, api: Api, planned: State, config: Mapping[str, Any], prior: Mapping[str, Any] | None) -> None:
        for name, default in (("project", api.project), ("region", api.region), ("location", api.region)):
            attribute = self.block["attributes"].get(name, {})
            if attribute.get("computed") and config.get(name) is None and (prior is None or default):
                planned[name] = default or UNKNOWN

    def create(self, api: Api, want: Given) -> State:
        key = self.key({name: want[name] for name in variables(self.path)})
        body = self.encode(api, want)
        query = {self.id_parameter: last(key)} if self.id_parameter else {}
        if not self.id_parameter:
            body["name"] = key
        self.finish(api, api("POST", self.service, key.rpartition("/")[0], body, query))
        return {"id": key}

    def read(self, api: Api, state: State) -> State | None:
        found = api("GET", self.service, state["id"])
        return self.decode(api, found, state) | self._named(state["id"]) | {"id": state["id"]}

    def update(self, api: Api, want: Given, state: State) -> None:
        body, changed = self.encode(api, want), self.changed(want, state)
        if self.masked:
            body = {name: value for name, value in body.items() if name in changed}
        if changed:
            self.finish(api, self.patch(api, state["id"], body, ",".join(sorted(changed))))

    def patch(self, api: Api, key: str, body: dict[str, Any], mask: str) -> dict[str, Any]:
        return api("PATCH", self.service, key, body, {"updateMask": mask} if self.masked else {})

    def delete(self, api: Api, state: State) -> None:
        if state.get("deletion_protection"):
            raise ProtectedFromDeletion(
                f"cannot destroy {state['id']} without setting deletion_protection=false and running `terraform apply`"
            )
        self.finish(api, api("DELETE", self.service, state["id"]))

    def same(self, path: str, one: Any, other: Any) -> bool:
        if path in self.durations and one and other:
            return seconds(one) == seconds(other)
        return super().same(path, one, other)

    def key(self, values: Mapping[str, Any]) -> str:
        """The path of one, from the arguments that name it."""
        missing = [name for name in variables(self.path) if not values.get(name)]
        if missing:
            raise LookupError(f"neither the resource nor the provider has a {' or a '.join(missing)}")
        return self.path.format_map(values)

    def encode(self, api: Api, want: Given) -> dict[str, Any]:
        """The object of the API."""
        attributes = self.block["attributes"]
        want.forgo("timeouts", *(name for name, one in attributes.items() if not _is_argument(one)))
        want.forgo(*(name for name in _OWN if name in attributes))
        body = form.encode(self.block, want, self.names, skip=self._unsent())
        return body | {member: want[name] for name, member in _MERGED.items() if name in attributes and want[name]}

    def decode(self, api: Api, found: Mapping[str, Any], state: Mapping[str, Any]) -> State:
        """The state, from the object of the API."""
        return form.decode(self.block, found, {**_MERGED, **self.names})

    def changed(self, want: Given, state: State) -> set[str]:
        """The members of the object that are not what they were."""
        names = {**_MERGED, **self.names}
        arguments = [name for name, one in self.block["attributes"].items() if _is_argument(one) or name in _MERGED]
        return {
            form.api_name(name, names)
            for name in (*arguments, *self.block["blocks"])
            if name not in self._unsent() and form.differs(self.block, name, want.plain(name), state.get(name))
        }

    def finish(self, api: Api, answer: dict[str, Any]) -> None:
        """Waits, where the API answers with an operation."""

    def _unsent(self) -> tuple[str, ...]:
        return (*variables(self.path), *self.local, *self.apart, *_OWN, "id", "project", "timeouts")

    def _named(self, key: str) -> State:
        return {name: value for name, value in named(self.path, key).items() if name in self.block["attributes"]}


class Operated(Rest):
    """A resource whose changes are long-running operations."""

    def finish(self, api: Api, answer: dict[str, Any]) -> None:
        api.finish(self.service, answer)


def seconds(duration: str) -> float:
    """`1.5s`, `10m`, `2h` or `7d`."""
    return float(duration[:-1]) * _UNITS[duration[-1]]


def _is_argument(attribute: Mapping[str, Any]) -> bool:
    return bool(attribute.get("optional") or attribute.get("required"))


def variables(path: str) -> list[str]:
    """`projects/{project}/topics/{name}` -> `project`, `name`"""
    return re.findall(r"\{(\w+)\}", path)


def named(path: str, key: str) -> dict[str, str]:
    """The values of the variables of a path in one that is filled; a path of one variable alone is its value."""
    if path == f"{{{path[1:-1]}}}" and variables(path) == [path[1:-1]]:
        return {path[1:-1]: key}
    matched = re.fullmatch(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)), key)
    if matched is None:
        raise LookupError(f"{key} is no {path}")
    return matched.groupdict()


def last(path: str) -> str:
    return path.rpartition("/")[2]
