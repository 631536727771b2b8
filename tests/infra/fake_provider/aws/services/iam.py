"""IAM."""

from __future__ import annotations

import json

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, as_pairs, tag_changes, tags_given, tags_of


class Role(Resource):
    type = "aws_iam_role"
    replace = ("name", "path")
    defaults = {"path": "/", "max_session_duration": 3600, "force_detach_policies": False}
    json = ("assume_role_policy",)
    local = ("force_detach_policies",)

    def create(self, aws: Clients, want: Given) -> State:
        aws("iam").create_role(
            RoleName=want["name"],
            AssumeRolePolicyDocument=want["assume_role_policy"],
            Tags=as_pairs(tags_given(want)),
            **want.pick("description", "path", "max_session_duration"),
        )
        return {"name": want["name"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client, name = aws("iam"), state["name"]
        client.update_assume_role_policy(RoleName=name, PolicyDocument=want["assume_role_policy"])
        client.update_role(RoleName=name, Description=want["description"] or "", **want.pick("max_session_duration"))
        added, removed = tag_changes(want, state)
        if added:
            client.tag_role(RoleName=name, Tags=as_pairs(added))
        if removed:
            client.untag_role(RoleName=name, TagKeys=removed)

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("iam").get_role(RoleName=state["name"])["Role"]
        document = found["AssumeRolePolicyDocument"]
        return {
            "id": found["RoleName"],
            "name": found["RoleName"],
            "name_prefix": "",
            "arn": found["Arn"],
            "unique_id": found["RoleId"],
            "create_date": found["CreateDate"].isoformat(),
            "path": found["Path"],
            "description": found.get("Description") or "",
            "max_session_duration": found.get("MaxSessionDuration", 3600),
            "assume_role_policy": document if isinstance(document, str) else json.dumps(document),
            "managed_policy_arns": [],
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("iam").delete_role(RoleName=state["name"])


class RolePolicy(Resource):
    type = "aws_iam_role_policy"
    replace = ("name", "role")
    json = ("policy",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("iam").put_role_policy(RoleName=want["role"], PolicyName=want["name"], PolicyDocument=want["policy"])

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("iam").get_role_policy(RoleName=state["role"], PolicyName=state["name"])
        document = found["PolicyDocument"]
        return {
            "id": f"{found['RoleName']}:{found['PolicyName']}",
            "name": found["PolicyName"],
            "name_prefix": "",
            "role": found["RoleName"],
            "policy": document if isinstance(document, str) else json.dumps(document),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("iam").delete_role_policy(RoleName=state["role"], PolicyName=state["name"])
