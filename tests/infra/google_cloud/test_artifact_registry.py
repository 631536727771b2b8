from __future__ import annotations

from typing import Any

import pytest
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin, call

REPOSITORIES = f"/v1/projects/{PROJECT}/locations/{REGION}/repositories"


@pytest.fixture
def repository(standin: Standin, unique: str) -> str:
    """The path of a repository."""
    body = {"format": "DOCKER", "labels": {"app": "noetl"}}
    assert call(f"{standin.url}{REPOSITORIES}?repositoryId={unique}", "POST", body, standin.token)["done"]
    return f"{REPOSITORIES}/{unique}"


def test_a_repository_is_read_back_changed_listed_and_deleted(standin: Standin, repository: str) -> None:
    def ask(verb: str, path: str, body: Any = None) -> Any:
        return call(f"{standin.url}{path}", verb, body, standin.token)

    found = ask("GET", repository)
    assert (found["name"], found["mode"]) == (repository.removeprefix("/v1/"), "STANDARD_REPOSITORY")
    changed = ask("PATCH", f"{repository}?updateMask=description", {"description": "images", "labels": {}})
    assert (changed["description"], changed["labels"]) == ("images", {"app": "noetl"})
    assert found["name"] in [one["name"] for one in ask("GET", REPOSITORIES)["repositories"]]
    ask("DELETE", repository)
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        ask("GET", repository)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"format": "DOCKER", "colour": "red"}, "INVALID_ARGUMENT"),
        ({"format": "PYTHON"}, "UNIMPLEMENTED"),
    ],
)
def test_a_repository_that_is_not_valid_or_not_implemented_is_refused(
    standin: Standin, unique: str, body: dict[str, Any], status: str
) -> None:
    with pytest.raises(RuntimeError, match=status):
        call(f"{standin.url}{REPOSITORIES}?repositoryId={unique}", "POST", body, standin.token)


def test_a_service_account_may_not_see_repositories(standin: Standin, repository: str, account: str) -> None:
    with pytest.raises(RuntimeError, match=r"artifactregistry\.repositories\.get"):
        call(f"{standin.url}{repository}", "GET", token=standin.credentials(account).token)
