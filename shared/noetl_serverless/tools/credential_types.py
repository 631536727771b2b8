"""The types of credentials that tools and keychains read, and the fields of each. A tool lists its own in
`credentials`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from ..errors import Fault, json_pointer
from ..playbook.faults import did_you_mean
from . import registry

# what entries of a keychain read: of a client of a token endpoint, of a user of AWS, and of a service account of Google
# (its key file)
OF_KEYCHAIN: Mapping[str, frozenset[str]] = {
    "oauth2": frozenset({"client_id", "client_secret"}),
    "aws": frozenset({"access_key_id", "secret_access_key", "session_token", "region"}),
    "service_account": frozenset(
        {
            *("type", "project_id", "private_key_id", "private_key", "client_email", "client_id"),
            *("auth_uri", "token_uri", "auth_provider_x509_cert_url", "client_x509_cert_url", "universe_domain"),
        }
    ),
}
# what a trigger of kind webhook reads: one secret, or several while the sender changes from one to the other
OF_TRIGGERS: Mapping[str, frozenset[str]] = {"webhook_secret": frozenset({"secret", "secrets"})}


@cache
def fields_by_type() -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {**OF_KEYCHAIN, **OF_TRIGGERS}
    for kind in registry.kinds():
        # tools of other packages may have none
        for type_, fields in getattr(registry.load(kind), "credentials", {}).items():
            found[type_] = found.get(type_, frozenset()) | fields
    return found


def check(type_: str, names: Iterable[str]) -> list[Fault]:
    """Faults about names that are no fields of a known type. They never contain a value."""
    known = fields_by_type().get(type_)
    if known is None:
        return []
    fields = f"; its fields are {', '.join(sorted(known))}"
    return [
        Fault(
            f"a credential of type {type_!r} has no field {name[:100]!r}{did_you_mean(name, known) or fields}",
            pointer=json_pointer(["data", name]),
        )
        for name in names
        if name not in known
    ]


def warnings(type_: str) -> list[str]:
    """About a type that no tool reads."""
    known = fields_by_type()
    if type_ in known:
        return []
    return [
        f"no tool reads credentials of type {type_!r}, unless a task of kind http names another type in its auth, or "
        f"the keychain of a playbook names the credential; the types are {', '.join(sorted(known))}"
        f"{did_you_mean(type_, known)}"
    ]
