"""What the command line asks Google for, of a small server: images, tokens, secrets."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from tests import serving

from noetl_serverless.cli.contexts import Context
from noetl_serverless.cli.deploy import gcp, images
from noetl_serverless.cli.failure import Failure
from noetl_serverless.cli.google_client import GoogleClient, Operator
from noetl_serverless.cli.google_user import GoogleUser

OPERATOR = "noetl-operator@project.iam.gserviceaccount.com"
IMAGE = "europe-west3-docker.pkg.dev/project/noetl/worker:0123456789abcdef"
TAG = "/v1/projects/project/locations/europe-west3/repositories/noetl/packages/worker/tags/0123456789abcdef"
SUBMIT = "/v2/projects/project/locations/europe-west3/builds:submit"
OPERATION = "operations/build/project/one"


def jwt(audience: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"aud": audience, "exp": time.time() + 3600}).encode()).decode()
    return f"e30.{claims.rstrip('=')}.x"


class Google:
    """`answers`: by method and path, one after the other, the last again and again; what is not there is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        google = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                name = f"{self.command} {self.path}"
                google.requests.append((name, dict(self.headers), json.loads(body or b"null")))
                given = google.answers.get(name, [(404, {"error": {"code": 404, "message": "not found"}})])
                status, answer = given.pop(0) if len(given) > 1 else given[0]
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                return None

        self.server = serving.serve(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def names(self) -> list[str]:
        return [name for name, _, _ in self.requests]

    def permit(self, secret: str = "") -> None:
        """Let the user act as the operator."""
        account = f"/v1/projects/-/serviceAccounts/{OPERATOR}"
        self.answers[f"POST {account}:generateIdToken"] = [(200, {"token": jwt(self.url)})]
        self.answers[f"POST {account}:generateAccessToken"] = [(200, {"accessToken": "operators"})]
        payload = {"payload": {"data": base64.b64encode(secret.encode()).decode()}}
        self.answers["GET /v1/projects/project/secrets/token/versions/latest:access"] = [(200, payload)]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "users")
    monkeypatch.setattr(images, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(gcp, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(gcp, "GRANT_SECONDS", 0.0)
    made = Google()
    yield made
    serving.end(made.server)


def build(google: Google) -> None:
    images.build_images(GoogleUser(google.url), "projects/project/locations/europe-west3", {IMAGE: {"imageUri": IMAGE}})


def test_an_image_that_exists_is_not_built(google: Google) -> None:
    google.answers[f"GET {TAG}"] = [(200, {})]
    build(google)
    assert google.names() == [f"GET {TAG}"]


def test_an_image_is_built_and_waited_for(google: Google) -> None:
    google.answers[f"POST {SUBMIT}"] = [(200, {"buildOperation": {"name": OPERATION}})]
    google.answers[f"GET /v1/{OPERATION}"] = [(200, {"name": OPERATION}), (200, {"name": OPERATION, "done": True})]
    build(google)
    assert google.names() == [f"GET {TAG}", f"POST {SUBMIT}", *[f"GET /v1/{OPERATION}"] * 2]
    assert google.requests[1][2] == {"imageUri": IMAGE}
    assert {headers["authorization"] for _, headers, _ in google.requests} == {"Bearer users"}


def test_a_build_that_fails_names_its_image(google: Google) -> None:
    google.answers[f"POST {SUBMIT}"] = [(200, {"buildOperation": {"name": OPERATION}})]
    google.answers[f"GET /v1/{OPERATION}"] = [(200, {"done": True, "error": {"code": 2, "message": "no such wheel"}})]
    with pytest.raises(Failure, match="could not be built: no such wheel") as caught:
        build(google)
    assert IMAGE in str(caught.value)


def test_what_google_refuses_is_said(google: Google) -> None:
    google.answers[f"GET {TAG}"] = [(403, {"error": {"code": 403, "message": "artifactregistry.tags.get denied"}})]
    with pytest.raises(Failure, match=r"artifactregistry answered 403: artifactregistry\.tags\.get denied"):
        build(google)


def outputs(google: Google) -> dict[str, Any]:
    return {
        "prefix": "noetl",
        "region": "europe-west3",
        "endpoint_url": google.url,
        "operator": OPERATOR,
        "operator_token_secret_id": "projects/project/secrets/token",
        "control_plane_url": google.url,
        "gateway_url": "https://gateway.example",
        "migration_url": google.url,
    }


def test_the_context_holds_the_operators_token_which_is_read_as_the_operator(google: Google) -> None:
    google.permit("secret token")
    assert gcp.context_of(outputs(google), None) == Context(
        "noetl",
        google.url,
        "secret token",
        gateway_url="https://gateway.example",
        region="europe-west3",
        endpoint_url=google.url,
        service_account=OPERATOR,
    )
    assert google.requests[-1][1]["authorization"] == "Bearer operators"


def test_a_token_that_was_written_just_now_is_found_by_its_number(google: Google) -> None:
    google.permit("secret token")
    path = "GET /v1/projects/project/secrets/token/versions"
    google.answers[f"{path}/1:access"] = google.answers.pop(f"{path}/latest:access")
    assert gcp.context_of(outputs(google), None).token == "secret token"


def test_a_migration_is_a_request_in_the_name_of_the_operator(google: Google) -> None:
    google.permit()
    google.answers["POST /"] = [(200, {"secrets": [], "migrations": ["0001_log"]})]
    assert gcp.migrate(outputs(google))["migrations"] == ["0001_log"]
    assert google.requests[-1][1]["X-Serverless-Authorization"].startswith("Bearer e30.")


def test_requests_to_the_control_plane_carry_both_tokens(google: Google) -> None:
    google.permit()
    google.answers["GET /livez"] = [(200, {"status": "ok"})]
    client = GoogleClient(google.url, "mine", Operator(OPERATOR, GoogleUser(google.url)))
    for _ in range(2):
        assert client.get("/livez") == {"status": "ok"}
    client.close()
    sent = google.requests[-1][1]
    assert sent["Authorization"] == "Bearer mine"
    assert sent["X-Serverless-Authorization"].startswith("Bearer e30.")
    assert len([name for name in google.names() if name.endswith(":generateIdToken")]) == 1


def test_who_may_not_act_as_the_operator_learns_who_may(google: Google) -> None:
    path = f"POST /v1/projects/-/serviceAccounts/{OPERATOR}:generateIdToken"
    google.answers[path] = [(403, {"error": {"code": 403, "message": "iam.serviceAccounts.getOpenIdToken denied"}})]
    with pytest.raises(Failure, match=r"you cannot act as noetl-operator@.*denied.*`operators` names those who may"):
        gcp.migrate(outputs(google))


def test_without_credentials_it_says_so(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**options: Any) -> None:
        raise DefaultCredentialsError("none were found")  # type: ignore[no-untyped-call]

    monkeypatch.delenv("GOOGLE_OAUTH_ACCESS_TOKEN")
    monkeypatch.setattr("google.auth.default", none)
    with pytest.raises(Failure, match="there are no credentials of Google Cloud: none were found"):
        build(google)


def test_a_service_that_does_not_answer_is_named(google: Google) -> None:
    serving.end(google.server)
    with pytest.raises(Failure, match="artifactregistry does not answer"):
        build(google)
    google.server = serving.serve(BaseHTTPRequestHandler)


def test_a_right_that_was_granted_just_now_is_waited_for(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp, "GRANT_SECONDS", 60.0)
    google.permit()
    path = f"POST /v1/projects/-/serviceAccounts/{OPERATOR}:generateIdToken"
    google.answers[path] = [(403, {"error": {"code": 403, "message": "denied"}}), *google.answers[path]]
    google.answers["POST /"] = [(403, {}), (200, {"secrets": [], "migrations": []})]
    assert gcp.migrate(outputs(google)) == {"secrets": [], "migrations": []}


def test_a_build_is_asked_for_again_while_google_does_not_answer(google: Google) -> None:
    google.answers[f"POST {SUBMIT}"] = [(200, {"buildOperation": {"name": OPERATION}})]
    google.answers[f"GET /v1/{OPERATION}"] = [(503, {}), (200, {"name": OPERATION, "done": True})]
    build(google)
    assert google.names().count(f"POST {SUBMIT}") == 1


def test_a_deployment_that_is_not_complete_is_said_to_be_so(google: Google) -> None:
    with pytest.raises(Failure, match="not complete; run: noetls deploy gcp apply"):
        gcp.context_of({"builds": {}}, None)


def test_credentials_that_have_expired_are_said_to_be_so(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    def expired(self: object, *given: Any, **options: Any) -> None:
        raise RefreshError("expired")  # type: ignore[no-untyped-call]

    monkeypatch.setattr("google.auth.transport.requests.AuthorizedSession.request", expired)
    with pytest.raises(Failure, match=r"not accepted: expired\. sign in anew"):
        build(google)
