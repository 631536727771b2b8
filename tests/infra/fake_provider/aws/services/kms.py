"""KMS."""

from __future__ import annotations

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, as_pairs, tag_changes, tags_given, tags_of


class Key(Resource):
    type = "aws_kms_key"
    replace = ("key_usage", "customer_master_key_spec")
    defaults = {
        "key_usage": "ENCRYPT_DECRYPT",
        "customer_master_key_spec": "SYMMETRIC_DEFAULT",
        "enable_key_rotation": False,
        "is_enabled": True,
        "bypass_policy_lockout_safety_check": False,
    }
    json = ("policy",)
    local = ("deletion_window_in_days", "bypass_policy_lockout_safety_check")

    def create(self, aws: Clients, want: Given) -> State:
        client = aws("kms")
        answer = client.create_key(
            **want.pick("description", "policy", "key_usage", customer_master_key_spec="KeySpec"),
            Tags=as_pairs(tags_given(want), "TagKey", "TagValue"),
        )
        state = {"key_id": answer["KeyMetadata"]["KeyId"]}
        self._rotate(aws, want, state["key_id"])
        assert want["is_enabled"]
        return state

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client, key = aws("kms"), state["key_id"]
        client.update_key_description(KeyId=key, Description=want["description"] or "")
        if want["policy"] is not None:
            client.put_key_policy(KeyId=key, PolicyName="default", Policy=want["policy"])
        self._rotate(aws, want, key)
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(KeyId=key, Tags=as_pairs(added, "TagKey", "TagValue"))
        if removed:
            client.untag_resource(KeyId=key, TagKeys=removed)

    def read(self, aws: Clients, state: State) -> State | None:
        client, key = aws("kms"), state["key_id"]
        found = client.describe_key(KeyId=key)["KeyMetadata"]
        if found["KeyState"] == "PendingDeletion":
            return None
        return {
            "id": found["KeyId"],
            "key_id": found["KeyId"],
            "arn": found["Arn"],
            "description": found.get("Description") or "",
            "key_usage": found["KeyUsage"],
            "customer_master_key_spec": found.get("KeySpec") or found.get("CustomerMasterKeySpec"),
            "is_enabled": found["Enabled"],
            "enable_key_rotation": client.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"],
            "multi_region": found.get("MultiRegion", False),
            "policy": client.get_key_policy(KeyId=key, PolicyName="default")["Policy"],
            "rotation_period_in_days": 365,
            "tags_all": tags_of(client.list_resource_tags(KeyId=key).get("Tags"), "TagKey", "TagValue"),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("kms").schedule_key_deletion(
            KeyId=state["key_id"], PendingWindowInDays=state["deletion_window_in_days"] or 30
        )

    def _rotate(self, aws: Clients, want: Given, key: str) -> None:
        if want["enable_key_rotation"]:
            aws("kms").enable_key_rotation(KeyId=key)
        else:
            aws("kms").disable_key_rotation(KeyId=key)


class Alias(Resource):
    type = "aws_kms_alias"
    replace = ("name",)

    def create(self, aws: Clients, want: Given) -> State:
        aws("kms").create_alias(AliasName=want["name"], TargetKeyId=want["target_key_id"])
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("kms").update_alias(AliasName=want["name"], TargetKeyId=want["target_key_id"])

    def read(self, aws: Clients, state: State) -> State | None:
        pages = aws("kms").get_paginator("list_aliases").paginate()
        found = next((one for page in pages for one in page["Aliases"] if one["AliasName"] == state["name"]), None)
        if found is None:
            return None
        arn = found["AliasArn"]
        return {
            "id": found["AliasName"],
            "name": found["AliasName"],
            "name_prefix": "",
            "arn": arn,
            "target_key_id": found["TargetKeyId"],
            "target_key_arn": f"{arn.partition(':alias/')[0]}:key/{found['TargetKeyId']}",
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("kms").delete_alias(AliasName=state["name"])
