"""The one project there is, by its id or its number."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from .errors import InvalidArgument, PermissionDenied

_PROJECT = re.compile(r"^projects/([^/]+)")
# what Google writes for "whichever": of a service account's project, and of any bucket's
_WILDCARDS = ("-", "_")


def check_name(name: str, collection: str, id: re.Pattern[str]) -> None:
    """InvalidArgument if it is not that of a resource in the collection."""
    start, separator, last = name.rpartition("/")
    if start != collection or not separator or not id.fullmatch(last):
        raise InvalidArgument(
            f"A name must be formatted: {collection}/ID, not {name!r}; the ID must match {id.pattern}."
        )


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    region: str

    @property
    def number(self) -> str:
        """Twelve digits, the same for the same id."""
        digits = int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:8]) % 900_000_000_000
        return str(100_000_000_000 + digits)

    @property
    def name(self) -> str:
        return f"projects/{self.id}"

    def by_id(self, name: str) -> str:
        """A resource's name with the project's id in it. PermissionDenied if it is another project's."""
        found = _PROJECT.match(name)
        if found is None or found[1] in (self.id, *_WILDCARDS):
            return name
        if found[1] != self.number:
            raise PermissionDenied(f"Permission denied on resource project {found[1]}.")
        return f"{self.name}{name[found.end() :]}"

    def by_number(self, name: str) -> str:
        return name.replace(self.name, f"projects/{self.number}", 1)

    def service_agent(self, service: str) -> str:
        """The e-mail address of the account by which a service of Google's acts in the project."""
        return f"service-{self.number}@{service}.iam.gserviceaccount.com"
