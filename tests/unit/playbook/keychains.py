"""Entries of a keychain for Hypothesis: of every kind and scope, and what tools read of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

Document = dict[str, Any]
NAMES = ["login", "tok", "made", "ident", "shop"]
# kinds whose tools may be given a secret, and take a credential
_AUTH = ("http", "postgres")
_INPUT = ("http", "postgres", "duckdb", "python", "noop")


def _mapping(required: dict[str, SearchStrategy[Any]], **optional: SearchStrategy[Any]) -> SearchStrategy[Document]:
    return st.fixed_dictionaries(required, optional=optional)


_common: dict[str, SearchStrategy[Any]] = {
    "scope": st.sampled_from(["local", "shared", "global"]),
    "auto_renew": st.booleans(),
}
_fetched: dict[str, SearchStrategy[Any]] = {**_common, "ttl": st.sampled_from([1, 60.5, 3600])}
_accounts = st.sampled_from(["google", "{{ workload.text }}"])


def _kinds(secrets: list[str]) -> SearchStrategy[Document]:
    """An entry without its name; `secrets` are templates over entries before it."""
    texts = st.sampled_from(["x", "{{ workload.text }}", *secrets])
    oauth2 = _mapping(
        {"kind": st.just("oauth2"), "endpoint": st.sampled_from(["https://x.test/token", "{{ workload.text }}/token"])},
        method=st.sampled_from(["GET", "POST"]),
        headers=st.fixed_dictionaries({"X-Id": st.sampled_from(["{{ auth.client_id }}", "{{ execution_id }}"])}),
        data=st.fixed_dictionaries({"grant_type": st.just("client_credentials"), "client_secret": texts}),
        auth=st.sampled_from(["client", "{{ workload.text }}"]),
        map=st.just({"token": "access_token", "header": "{{ response.token_type ~ ' ' ~ response.access_token }}"}),
        **_fetched,
    )
    manager = _mapping(
        {
            "kind": st.sampled_from(["secret_manager", "secrets"]),
            "provider": st.sampled_from(["gcp", "aws"]),
            "auth": _accounts,
            "map": st.just({"pin": "projects/p/secrets/pin", "phrase": "shop/login#phrase"}),
        },
        endpoint=st.just("https://secrets.test"),
        **_fetched,
    )
    of_credential = _mapping(
        {
            "kind": st.just("secret_manager"),
            "provider": st.just("credential"),
            "auth": _accounts,
            "map": st.just({"pin": "password"}),
        },
        **_fetched,
    )
    identity = _mapping(
        {
            "kind": st.just("google_id_token"),
            "target_audience": texts,
            "service_account_credential": _accounts,
        },
        service_account_secret=st.just("projects/p/secrets/key"),
        **_fetched,
    )
    access = _mapping(
        {"kind": st.just("google_access_token"), "auth": _accounts},
        scopes=st.just(["https://www.googleapis.com/auth/devstorage.read_only"]),
        **_fetched,
    )
    bearer = _mapping({"kind": st.just("bearer"), "token": texts}, **_common)
    static = _mapping({"kind": st.just("static"), "map": st.fixed_dictionaries({"value": texts})}, **_common)
    credential = _mapping(
        {"kind": st.sampled_from(["credential", "credential_ref"])}, type=st.just("credential"), **_common
    )
    named = _mapping({}, credential=_accounts) | _mapping({}, ref=_accounts)
    stored = st.tuples(credential, named).map(lambda parts: parts[0] | parts[1])
    ttls = st.sampled_from([60, "2d", "1h30m"])
    names = st.sampled_from(["manager", "{{ workload.text }}"])
    callback = _mapping({"kind": st.just("callback"), "signal": names}, ttl=ttls)
    return st.one_of(oauth2, manager, of_credential, identity, access, bearer, static, stored, callback)


def fields_of(entry: Document) -> list[str]:
    """Fields of it that templates may read."""
    match entry["kind"]:
        case "secret_manager" | "secrets" | "static":
            return list(entry["map"])
        case "oauth2":
            return list(entry.get("map", {"access_token": ""}))
        case "google_id_token" | "google_access_token" | "bearer":
            return ["token", "access_token"]
        case "callback":
            return ["url", "token", "expires_at"]
    return ["password"]


@st.composite
def keychains(draw: DrawFn) -> list[Document]:
    """Each entry reads those before it."""
    found: list[Document] = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)):
        found.append({"name": name, **draw(_kinds(secrets_of(found)))})
    return found


def secrets_of(keychain: list[Document]) -> list[str]:
    """Templates that read them."""
    return [f"{{{{ keychain.{entry['name']}.{field} }}}}" for entry in keychain for field in fields_of(entry)]


def tools_of(document: Document) -> Iterator[Document]:
    """The tools of all steps."""
    for step in document["workflow"]:
        tools = step["tool"]
        yield from tools if isinstance(tools, list) else [tools]


def use(draw: DrawFn, document: Document) -> None:
    """Let tools of the document read the entries of its keychain, and name them as credentials."""
    keychain = document.get("keychain") or []
    secrets = secrets_of(keychain)
    for tool in tools_of(document) if secrets else ():
        if not draw(st.booleans()):
            continue
        if tool["kind"] in _AUTH and draw(st.booleans()):
            tool["auth"] = draw(st.sampled_from([entry["name"] for entry in keychain]))
        elif tool["kind"] in _INPUT:
            tool["input"] = {**tool.get("input", {}), "token": draw(st.sampled_from(secrets))}
