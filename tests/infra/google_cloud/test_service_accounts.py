from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from google.api_core import exceptions
from google.cloud.iam_credentials_v1 import IAMCredentialsClient
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from tests.infra.google_cloud.conftest import new_account
from tests.infra.google_cloud.standin import PROJECT, Standin, call

ACCOUNTS = f"/v1/projects/{PROJECT}/serviceAccounts"


class Iam:
    """IAM's own client has no REST transport."""

    def __init__(self, standin: Standin, email: str | None = None) -> None:
        self._standin = standin
        self._token = standin.credentials(email).token

    def __call__(self, verb: str, path: str, body: Any = None) -> Any:
        return call(f"{self._standin.url}{path}", verb, body, self._token)

    def grant(self, resource: str, role: str, *members: str, condition: Any = None) -> Any:
        # IAM takes the options in the query, Resource Manager in the body
        if "/serviceAccounts/" in resource:
            policy = self("POST", f"/v1/{resource}:getIamPolicy?options.requestedPolicyVersion=3")
        else:
            policy = self("POST", f"/v1/{resource}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
        binding = {"role": role, "members": list(members)} | ({"condition": condition} if condition else {})
        policy["bindings"] = [*policy.get("bindings", []), binding]
        return self("POST", f"/v1/{resource}:setIamPolicy", {"policy": policy})


@pytest.fixture
def iam(standin: Standin) -> Iam:
    return Iam(standin)


def name_of(email: str) -> str:
    return f"projects/{PROJECT}/serviceAccounts/{email}"


def test_an_account_is_made_changed_listed_and_deleted(iam: Iam, unique: str) -> None:
    body = {"accountId": unique, "serviceAccount": {"displayName": "Worker", "description": "runs code"}}
    made = iam("POST", ACCOUNTS, body)
    assert made["email"] == f"{unique}@{PROJECT}.iam.gserviceaccount.com"
    assert iam("GET", f"{ACCOUNTS}/{made['email']}") == made == iam("GET", f"{ACCOUNTS}/{made['uniqueId']}")
    patch = {"serviceAccount": {"displayName": "Other"}, "updateMask": "displayName"}
    changed = iam("PATCH", f"{ACCOUNTS}/{made['email']}", patch)
    assert (changed["displayName"], changed["description"]) == ("Other", "runs code")
    assert made["email"] in [account["email"] for account in iam("GET", ACCOUNTS)["accounts"]]
    iam("DELETE", f"{ACCOUNTS}/{made['email']}")
    with pytest.raises(RuntimeError, match=r"404.*NOT_FOUND"):
        iam("GET", f"{ACCOUNTS}/{made['email']}")


@pytest.mark.parametrize("id", ["short", "Upper-case", "a" * 31, "ends-with-"])
def test_an_id_that_google_would_not_take_is_refused(iam: Iam, id: str) -> None:
    with pytest.raises(RuntimeError, match="INVALID_ARGUMENT"):
        iam("POST", ACCOUNTS, {"accountId": id})


def test_an_id_token_names_account_and_audience_and_is_issued_to_those_who_may(
    standin: Standin, iam: Iam, unique: str
) -> None:
    issued_for, asking = new_account(standin, f"{unique}-a"), new_account(standin, f"{unique}-b")
    credentials = standin.client(IAMCredentialsClient, asking)
    request = {"name": f"projects/-/serviceAccounts/{issued_for}", "audience": "https://x", "include_email": True}
    with pytest.raises(exceptions.Forbidden, match="getOpenIdToken"):
        credentials.generate_id_token(request=request)
    iam.grant(name_of(issued_for), "roles/iam.serviceAccountTokenCreator", f"serviceAccount:{asking}")
    token = credentials.generate_id_token(request=request).token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert jwt.get_unverified_header(token)["alg"] == "RS256"
    assert (claims["aud"], claims["email"], claims["sub"].isdigit()) == ("https://x", issued_for, True)
    assert 3500 < claims["exp"] - time.time() <= 3600


def test_an_access_token_is_that_account_s_and_ends_with_it(standin: Standin, iam: Iam, unique: str) -> None:
    email = new_account(standin, unique)
    credentials = standin.client(IAMCredentialsClient)
    answer = credentials.generate_access_token(name=f"projects/-/serviceAccounts/{email}", scope=["x"])
    url = f"{standin.url}/v1/{name_of(email)}"
    with pytest.raises(RuntimeError, match=rf"403.*iam\.serviceAccounts\.get.* for {email}"):
        call(url, "GET", token=answer.access_token)
    iam("POST", f"/v1/{name_of(email)}:disable", {})
    with pytest.raises(RuntimeError, match=r"401.*UNAUTHENTICATED"):
        call(url, "GET", token=answer.access_token)


def test_a_person_may_act_as_an_account_that_lets_them(standin: Standin, iam: Iam, account: str) -> None:
    iam.grant(name_of(account), "roles/iam.serviceAccountTokenCreator", "user:ann@example.org")
    name = f"projects/-/serviceAccounts/{account}"
    assert standin.client(IAMCredentialsClient, "ann@example.org").generate_access_token(name=name, scope=["x"])
    with pytest.raises(exceptions.Forbidden):
        standin.client(IAMCredentialsClient, "bob@example.org").generate_access_token(name=name, scope=["x"])


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_a_token_that_was_issued_nothing_is_answered(standin: Standin, token: str | None) -> None:
    for path in (ACCOUNTS, "/no/such/method", "/_standin/calls"):
        with pytest.raises(RuntimeError, match=r"401.*UNAUTHENTICATED"):
            call(f"{standin.url}{path}", "GET", token=token)


def test_a_method_that_is_not_there_is_refused(iam: Iam) -> None:
    with pytest.raises(RuntimeError, match=r"501.*UNIMPLEMENTED"):
        iam("POST", f"{ACCOUNTS}/x@y:signJwt", {})


def test_another_project_is_refused(iam: Iam) -> None:
    with pytest.raises(RuntimeError, match=r"403.*PERMISSION_DENIED"):
        iam("GET", "/v1/projects/another/serviceAccounts")


def test_a_policy_is_read_back_and_one_that_has_changed_meanwhile_is_not_overwritten(iam: Iam, account: str) -> None:
    resource = f"/v1/{name_of(account)}"
    read = iam("POST", f"{resource}:getIamPolicy", {})
    bindings = [{"role": "roles/iam.serviceAccountUser", "members": ["user:ann@example.org"]}]
    written = iam("POST", f"{resource}:setIamPolicy", {"policy": {**read, "bindings": bindings}})
    assert iam("POST", f"{resource}:getIamPolicy", {}) == written
    assert written["bindings"] == bindings
    with pytest.raises(RuntimeError, match=r"409.*ABORTED"):
        iam("POST", f"{resource}:setIamPolicy", {"policy": {**read, "bindings": []}})


@pytest.mark.parametrize(
    ("role", "member", "reason"),
    [
        ("roles/iam.noSuchRole", "user:ann@example.org", "not one that the stand-in knows"),
        ("roles/run.invoker", "user:ann@example.org", "not supported for this resource"),
        ("roles/iam.serviceAccountUser", "ann@example.org", "unknown type"),
        ("roles/iam.serviceAccountUser", "group:all@example.org", "no groups"),
        ("roles/iam.serviceAccountUser", f"serviceAccount:nobody@{PROJECT}.iam.gserviceaccount.com", "does not exist"),
    ],
)
def test_a_binding_that_google_or_the_standin_does_not_take_is_refused(
    iam: Iam, account: str, role: str, member: str, reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason):
        iam.grant(name_of(account), role, member)


def test_a_condition_is_refused_where_it_is_not_evaluated(iam: Iam, account: str) -> None:
    condition = {"title": "x", "expression": 'resource.name.startsWith("projects/_")'}
    with pytest.raises(RuntimeError, match="UNIMPLEMENTED"):
        iam.grant(name_of(account), "roles/iam.serviceAccountUser", "user:ann@example.org", condition=condition)


def test_a_new_account_of_the_same_name_has_none_of_the_old_one_s_roles(
    standin: Standin, iam: Iam, unique: str
) -> None:
    email = new_account(standin, unique)
    secrets = standin.client(SecretManagerServiceClient)
    secret = secrets.create_secret(
        parent=f"projects/{PROJECT}", secret_id=unique, secret={"replication": {"automatic": {}}}
    ).name
    bindings = [{"role": "roles/secretmanager.viewer", "members": [f"serviceAccount:{email}"]}]
    secrets.set_iam_policy(request={"resource": secret, "policy": {"bindings": bindings}})
    assert standin.client(SecretManagerServiceClient, email).get_secret(name=secret)
    iam("DELETE", f"/v1/{name_of(email)}")
    new_account(standin, unique)
    with pytest.raises(exceptions.Forbidden):
        standin.client(SecretManagerServiceClient, email).get_secret(name=secret)


def test_a_role_on_the_project_counts_for_all_that_is_in_it(standin: Standin, iam: Iam, unique: str) -> None:
    email = new_account(standin, unique)
    iam.grant(f"projects/{PROJECT}", "roles/secretmanager.viewer", f"serviceAccount:{email}")
    standin.client(SecretManagerServiceClient, email).list_secrets(parent=f"projects/{PROJECT}")


def test_the_project_is_described_under_both_versions(iam: Iam) -> None:
    first, third = iam("GET", f"/v1/projects/{PROJECT}"), iam("GET", f"/v3/projects/{PROJECT}")
    assert first["projectId"] == third["projectId"] == PROJECT
    assert third["name"] == f"projects/{first['projectNumber']}"
    assert (first["lifecycleState"], third["state"]) == ("ACTIVE", "ACTIVE")
    assert iam("GET", f"/v1/{third['name']}") == first


def test_the_administrator_sees_what_there_is_and_what_was_called(standin: Standin, iam: Iam, account: str) -> None:
    assert name_of(account) in standin.admin("GET", "resources")["serviceAccounts"]
    before = standin.admin("GET", "calls")["iam"].get("getServiceAccount", 0)
    iam("GET", f"{ACCOUNTS}/{account}")
    assert standin.admin("GET", "calls")["iam"]["getServiceAccount"] == before + 1
    with pytest.raises(RuntimeError, match="403"):
        call(f"{standin.url}/_standin/resources", "GET", token=standin.credentials(account).token)
