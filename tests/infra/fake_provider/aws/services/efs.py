"""EFS."""

from __future__ import annotations

import json
from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, as_pairs, tag_changes, tags_given, tags_of


class _Tagged(Resource):
    def _change_tags(self, aws: Clients, want: Given, state: State) -> None:
        added, removed = tag_changes(want, state)
        if added:
            aws("efs").tag_resource(ResourceId=state["id"], Tags=as_pairs(added))
        if removed:
            aws("efs").untag_resource(ResourceId=state["id"], TagKeys=removed)


class FileSystem(_Tagged):
    type = "aws_efs_file_system"
    replace = ("creation_token", "encrypted", "kms_key_id", "performance_mode")
    defaults = {"throughput_mode": "bursting"}

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("efs").create_file_system(
            **want.pick("encrypted", "kms_key_id", "throughput_mode", "performance_mode"),
            Tags=as_pairs(tags_given(want)),
        )
        _wait(aws, answer["FileSystemId"])
        return {"id": answer["FileSystemId"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        if want["throughput_mode"] != state["throughput_mode"]:
            aws("efs").update_file_system(FileSystemId=state["id"], **want.pick("throughput_mode"))
        self._change_tags(aws, want, state)

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("efs").describe_file_systems(FileSystemId=state["id"])["FileSystems"][0]
        id = found["FileSystemId"]
        return {
            "id": id,
            "arn": found["FileSystemArn"],
            "encrypted": found.get("Encrypted", False),
            "kms_key_id": found.get("KmsKeyId"),
            "throughput_mode": found.get("ThroughputMode", "bursting"),
            "performance_mode": found.get("PerformanceMode", "generalPurpose"),
            "creation_token": found.get("CreationToken", ""),
            "name": found.get("Name", ""),
            "number_of_mount_targets": found.get("NumberOfMountTargets", 0),
            "owner_id": found.get("OwnerId") or aws.account,
            "dns_name": f"{id}.efs.{aws.region}.amazonaws.com",
            "availability_zone_id": "",
            "availability_zone_name": "",
            "size_in_bytes": [],
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("efs").delete_file_system(FileSystemId=state["id"])


class BackupPolicy(Resource):
    type = "aws_efs_backup_policy"
    replace = ("file_system_id",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        block = want.block("backup_policy")
        assert block is not None
        aws("efs").put_backup_policy(FileSystemId=want["file_system_id"], BackupPolicy=block.pick("status"))

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("efs").describe_backup_policy(FileSystemId=state["file_system_id"])["BackupPolicy"]
        return {
            "id": state["file_system_id"],
            "file_system_id": state["file_system_id"],
            "backup_policy": [{"status": found["Status"]}],
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("efs").put_backup_policy(FileSystemId=state["file_system_id"], BackupPolicy={"Status": "DISABLED"})


class MountTarget(Resource):
    type = "aws_efs_mount_target"
    replace = ("file_system_id", "subnet_id")

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("efs").create_mount_target(**want.pick("file_system_id", "subnet_id", "security_groups"))
        return {"id": answer["MountTargetId"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("efs").modify_mount_target_security_groups(MountTargetId=state["id"], **want.pick("security_groups"))

    def read(self, aws: Clients, state: State) -> State | None:
        client = aws("efs")
        found = client.describe_mount_targets(MountTargetId=state["id"])["MountTargets"][0]
        groups = client.describe_mount_target_security_groups(MountTargetId=state["id"])["SecurityGroups"]
        system = found["FileSystemId"]
        return {
            "id": found["MountTargetId"],
            "file_system_id": system,
            "file_system_arn": f"arn:aws:elasticfilesystem:{aws.region}:{aws.account}:file-system/{system}",
            "subnet_id": found["SubnetId"],
            "security_groups": groups,
            "ip_address": found.get("IpAddress", ""),
            "ipv6_address": "",
            "availability_zone_id": found.get("AvailabilityZoneId", ""),
            "availability_zone_name": found.get("AvailabilityZoneName", ""),
            "network_interface_id": found.get("NetworkInterfaceId", ""),
            "owner_id": found.get("OwnerId") or aws.account,
            "dns_name": f"{system}.efs.{aws.region}.amazonaws.com",
            "mount_target_dns_name": "",
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("efs").delete_mount_target(MountTargetId=state["id"])


class AccessPoint(_Tagged):
    type = "aws_efs_access_point"
    replace = ("file_system_id", "posix_user", "root_directory")

    def create(self, aws: Clients, want: Given) -> State:
        user, root = want.block("posix_user"), want.block("root_directory")
        assert user is not None and root is not None
        made = root.block("creation_info")
        assert made is not None
        answer = aws("efs").create_access_point(
            FileSystemId=want["file_system_id"],
            PosixUser=user.pick("uid", "gid"),
            RootDirectory={
                "Path": root["path"],
                "CreationInfo": made.pick("owner_uid", "owner_gid", "permissions"),
            },
            Tags=as_pairs(tags_given(want)),
        )
        return {"id": answer["AccessPointId"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        self._change_tags(aws, want, state)

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("efs").describe_access_points(AccessPointId=state["id"])["AccessPoints"][0]
        if found.get("LifeCycleState") in ("deleting", "deleted"):
            return None
        user, root = found["PosixUser"], found["RootDirectory"]
        made = root["CreationInfo"]
        system = found["FileSystemId"]
        return {
            "id": found["AccessPointId"],
            "arn": found["AccessPointArn"],
            "file_system_id": system,
            "file_system_arn": f"arn:aws:elasticfilesystem:{aws.region}:{aws.account}:file-system/{system}",
            "owner_id": found.get("OwnerId") or aws.account,
            "posix_user": [{"uid": user["Uid"], "gid": user["Gid"], "secondary_gids": None}],
            "root_directory": [
                {
                    "path": root["Path"],
                    "creation_info": [
                        {
                            "owner_uid": made["OwnerUid"],
                            "owner_gid": made["OwnerGid"],
                            "permissions": made["Permissions"],
                        }
                    ],
                }
            ],
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("efs").delete_access_point(AccessPointId=state["id"])


class Policy(Resource):
    type = "aws_efs_file_system_policy"
    replace = ("file_system_id",)
    defaults = {"bypass_policy_lockout_safety_check": False}
    json = ("policy",)
    local = ("bypass_policy_lockout_safety_check",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("efs").put_file_system_policy(**want.pick("file_system_id", "policy"))

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("efs").describe_file_system_policy(FileSystemId=state["file_system_id"])
        return {"id": state["file_system_id"], "file_system_id": state["file_system_id"], "policy": found["Policy"]}

    def delete(self, aws: Clients, state: State) -> None:
        aws("efs").delete_file_system_policy(FileSystemId=state["file_system_id"])

    def same(self, name: str, one: Any, other: Any) -> bool:
        """EFS gives a policy an id if it has none."""
        if name == "policy" and one and other:
            one, other = (
                json.dumps({key: part for key, part in json.loads(text).items() if key != "Id"})
                for text in (one, other)
            )
        return super().same(name, one, other)


def _wait(aws: Clients, id: str) -> None:
    import time

    for _ in range(60):
        found: dict[str, Any] = aws("efs").describe_file_systems(FileSystemId=id)["FileSystems"][0]
        if found["LifeCycleState"] == "available":
            return
        time.sleep(0.5)
    raise LookupError(f"the file system {id} is not available")
