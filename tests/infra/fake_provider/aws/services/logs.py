"""CloudWatch Logs."""

from __future__ import annotations

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, tag_changes, tags_given


class LogGroup(Resource):
    type = "aws_cloudwatch_log_group"
    replace = ("name", "log_group_class")
    defaults = {"skip_destroy": False}
    local = ("skip_destroy",)

    def create(self, aws: Clients, want: Given) -> State:
        client = aws("logs")
        client.create_log_group(logGroupName=want["name"], tags=tags_given(want), **want.pick(kms_key_id="kmsKeyId"))
        self._retain(aws, want)
        return {"name": want["name"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client, name = aws("logs"), state["name"]
        self._retain(aws, want)
        if want["kms_key_id"] != state["kms_key_id"]:
            if want["kms_key_id"]:
                client.associate_kms_key(logGroupName=name, kmsKeyId=want["kms_key_id"])
            else:
                client.disassociate_kms_key(logGroupName=name)
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(resourceArn=state["arn"], tags=added)
        if removed:
            client.untag_resource(resourceArn=state["arn"], tagKeys=removed)

    def read(self, aws: Clients, state: State) -> State | None:
        client, name = aws("logs"), state["name"]
        groups = client.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        found = next((group for group in groups if group["logGroupName"] == name), None)
        if found is None:
            return None
        arn = found["arn"].removesuffix(":*")
        return {
            "id": name,
            "name": name,
            "name_prefix": "",
            "arn": arn,
            "retention_in_days": found.get("retentionInDays", 0),
            "kms_key_id": found.get("kmsKeyId") or None,
            "log_group_class": found.get("logGroupClass", "STANDARD"),
            "deletion_protection_enabled": False,
            "tags_all": client.list_tags_for_resource(resourceArn=arn).get("tags") or {},
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("logs").delete_log_group(logGroupName=state["name"])

    def _retain(self, aws: Clients, want: Given) -> None:
        days = want["retention_in_days"]
        if days:
            aws("logs").put_retention_policy(logGroupName=want["name"], retentionInDays=days)
        else:
            aws("logs").delete_retention_policy(logGroupName=want["name"])
