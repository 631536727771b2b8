"""IAM: service accounts, and who may do what with them and with the project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...given import Given
from ...resource import State
from ...values import UNKNOWN
from .. import form
from ..api import Api, ApiError
from ..policy import Member
from ..resource import Rest


class ServiceAccount(Rest):
    type = "google_service_account"
    service = "iam"
    path = "projects/{project}/serviceAccounts/{email}"
    replace = ("account_id", "project")
    defaults = {"disabled": False}
    local = ("create_ignore_already_exists",)
    apart = ("disabled",)
    patterns = {"account_id": r"[a-z](?:[-a-z0-9]{4,28}[a-z0-9])", "description": r"[\s\S]{0,256}"}

    def plan(self, api: Api, planned: State, config: Mapping[str, Any], prior: Mapping[str, Any] | None) -> None:
        super().plan(api, planned, config, prior)
        account, project = planned["account_id"], planned["project"]
        if prior is not None and (account, project) == (prior["account_id"], prior["project"]):
            return
        if UNKNOWN not in (account, project):
            email = f"{account}@{project}.iam.gserviceaccount.com"
            planned |= {"email": email, "member": f"serviceAccount:{email}"}

    def create(self, api: Api, want: Given) -> State:
        project = want["project"]
        body = {"accountId": want["account_id"], "serviceAccount": self._described(want)}
        try:
            made = api("POST", self.service, f"projects/{project}/serviceAccounts", body)
        except ApiError as error:
            if error.status != 409 or not want["create_ignore_already_exists"]:
                raise
            made = {"name": self.key({"project": project, "email": want["email"]})}
        key = {"id": made["name"]}
        if want["disabled"]:
            self._enable(api, key["id"], False)
        return key

    def update(self, api: Api, want: Given, state: State) -> None:
        body = self._described(want)
        changed = [name for name in ("description", "display_name") if (want[name] or "") != (state[name] or "")]
        mask = ",".join(form.camel(name) for name in changed)
        if want["disabled"] != state["disabled"]:
            self._enable(api, state["id"], not want["disabled"])
        if changed:
            api("PATCH", self.service, state["id"], {"serviceAccount": body, "updateMask": mask})

    def decode(self, api: Api, found: Mapping[str, Any], state: Mapping[str, Any]) -> State:
        return super().decode(api, found, state) | {
            "account_id": found["email"].partition("@")[0],
            "member": f"serviceAccount:{found['email']}",
            "disabled": found.get("disabled", False),
        }

    def _described(self, want: Given) -> dict[str, Any]:
        want.forgo("email", "member", "timeouts")
        return {"displayName": want["display_name"] or "", "description": want["description"] or ""}

    def _enable(self, api: Api, key: str, enabled: bool) -> None:
        api("POST", self.service, f"{key}:{'enable' if enabled else 'disable'}", {})


class ServiceAccountMember(Member):
    type = "google_service_account_iam_member"
    service = "iam"
    path = "{service_account_id}"
    reading = "POST"
    version_parameter = "options.requestedPolicyVersion"
    patterns = {
        **Member.patterns,
        "service_account_id": r"projects/[^/]+/serviceAccounts/[^/@]+@[^/@]+",
    }


class ProjectMember(Member):
    type = "google_project_iam_member"
    service = "resource_manager"
    path = "projects/{project}"
    reading = "POST"

    def resource_id(self, path: str) -> str:
        return path.removeprefix("projects/")

    def request(self) -> dict[str, Any]:
        return {"options": {"requestedPolicyVersion": 3}}
