"""A policy that somebody else changes at the same time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.infra.fake_provider.given import Given
from tests.infra.fake_provider.google.api import Api, ApiError
from tests.infra.fake_provider.google.services.tasks import QueueMember

WANTED = {
    "project": "p",
    "location": "l",
    "name": "q",
    "role": "roles/cloudtasks.enqueuer",
    "member": "user:ann@example.org",
    "condition": [],
}


class Contested(Api):
    """The policy of one thing; the first writers come too late."""

    def __init__(self, late: int) -> None:
        super().__init__(project="p", region="l", endpoints={}, token="t", labels={}, attributed=False)
        self.policy: dict[str, Any] = {"etag": "0", "bindings": []}
        self._late = late

    def __call__(self, method: str, service: str, path: str, body: Any = None, query: Any = None) -> dict[str, Any]:
        if path.endswith(":getIamPolicy"):
            return json.loads(json.dumps(self.policy))  # type: ignore[no-any-return]
        if self._late:
            self._late -= 1
            member = f"user:other-{self._late}@example.org"
            self.policy["bindings"].append({"role": f"roles/{self._late}", "members": [member]})
            self.policy["etag"] += "0"
        if body["policy"]["etag"] != self.policy["etag"]:
            raise ApiError(f"{method} {path}", 409, b'{"error": {"status": "ABORTED", "message": "too late"}}')
        self.policy = {**body["policy"], "etag": f"{self.policy['etag']}1"}
        return self.policy


def test_who_comes_too_late_reads_the_policy_again_and_overwrites_nothing() -> None:
    api = Contested(late=2)
    QueueMember().create(api, Given(WANTED))
    assert sorted(one["role"] for one in api.policy["bindings"]) == ["roles/0", "roles/1", "roles/cloudtasks.enqueuer"]


def test_who_is_always_too_late_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(ApiError, match="409 ABORTED too late"):
        QueueMember().create(Contested(late=1000), Given(WANTED))


def test_a_failure_that_is_no_conflict_is_not_tried_again() -> None:
    class Forbidden(Contested):
        def __call__(self, method: str, service: str, path: str, body: Any = None, query: Any = None) -> dict[str, Any]:
            if path.endswith(":setIamPolicy"):
                raise ApiError(f"{method} {path}", 403, b"no")
            return super().__call__(method, service, path, body, query)

    with pytest.raises(ApiError, match="403"):
        QueueMember().create(Forbidden(late=0), Given(WANTED))
