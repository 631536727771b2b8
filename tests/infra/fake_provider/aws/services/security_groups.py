"""EC2: security groups."""

from __future__ import annotations

from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import State, tags_of
from .ec2 import _Tagged


class SecurityGroup(_Tagged):
    type = "aws_security_group"
    replace = ("name", "description", "vpc_id")
    defaults = {"description": "Managed by Terraform", "revoke_rules_on_delete": False}
    local = ("revoke_rules_on_delete",)

    def create(self, aws: Clients, want: Given) -> State:
        client = aws("ec2")
        answer = client.create_security_group(
            **want.pick("description", "vpc_id", name="GroupName"),
            TagSpecifications=self._tags_at_birth(want, "security-group"),
        )
        # as the real provider: a group allows what its rules say, not everything outwards
        _close(aws, answer["GroupId"])
        return {"id": answer["GroupId"]}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ec2").describe_security_groups(GroupIds=[state["id"]])["SecurityGroups"][0]
        return {
            "id": found["GroupId"],
            "arn": self._arn(aws, "security-group", found["GroupId"]),
            "name": found["GroupName"],
            "name_prefix": "",
            "description": found["Description"],
            "vpc_id": found["VpcId"],
            "owner_id": found.get("OwnerId") or aws.account,
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").delete_security_group(GroupId=state["id"])


class DefaultSecurityGroup(_Tagged):
    """Adopts the group that a VPC is born with."""

    type = "aws_default_security_group"
    replace = ("vpc_id",)
    defaults = {"revoke_rules_on_delete": False}
    local = ("revoke_rules_on_delete",)

    def create(self, aws: Clients, want: Given) -> State:
        filters = [{"Name": "vpc-id", "Values": [want["vpc_id"]]}, {"Name": "group-name", "Values": ["default"]}]
        id = aws("ec2").describe_security_groups(Filters=filters)["SecurityGroups"][0]["GroupId"]
        _close(aws, id)
        self._change_tags(aws, want, {"id": id})
        return {"id": id}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ec2").describe_security_groups(GroupIds=[state["id"]])["SecurityGroups"][0]
        return {
            "id": found["GroupId"],
            "arn": self._arn(aws, "security-group", found["GroupId"]),
            "name": found["GroupName"],
            "name_prefix": "",
            "description": found["Description"],
            "vpc_id": found["VpcId"],
            "owner_id": found.get("OwnerId") or aws.account,
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        """It goes with its VPC."""


def _close(aws: Clients, id: str) -> None:
    client = aws("ec2")
    group = client.describe_security_groups(GroupIds=[id])["SecurityGroups"][0]
    if group["IpPermissions"]:
        client.revoke_security_group_ingress(GroupId=id, IpPermissions=group["IpPermissions"])
    if group["IpPermissionsEgress"]:
        client.revoke_security_group_egress(GroupId=id, IpPermissions=group["IpPermissionsEgress"])


class _Rule(_Tagged):
    direction: str
    replace = (
        "security_group_id",
        "ip_protocol",
        "from_port",
        "to_port",
        "cidr_ipv4",
        "referenced_security_group_id",
        "description",
    )

    def create(self, aws: Clients, want: Given) -> State:
        permission: dict[str, Any] = want.pick(ip_protocol="IpProtocol", from_port="FromPort", to_port="ToPort")
        described = {"Description": want["description"]} if want["description"] else {}
        if want["cidr_ipv4"]:
            permission["IpRanges"] = [{"CidrIp": want["cidr_ipv4"], **described}]
        if want["referenced_security_group_id"]:
            permission["UserIdGroupPairs"] = [{"GroupId": want["referenced_security_group_id"], **described}]
        authorize = getattr(aws("ec2"), f"authorize_security_group_{self.direction}")
        answer = authorize(
            GroupId=want["security_group_id"],
            IpPermissions=[permission],
            TagSpecifications=self._tags_at_birth(want, "security-group-rule"),
        )
        rules = answer.get("SecurityGroupRules") or []
        if rules:
            return {"id": rules[0]["SecurityGroupRuleId"]}
        raise LookupError("the rule was not made")

    def read(self, aws: Clients, state: State) -> State | None:
        answer = aws("ec2").describe_security_group_rules(SecurityGroupRuleIds=[state["id"]])["SecurityGroupRules"]
        if not answer:
            return None
        found = answer[0]
        id = found["SecurityGroupRuleId"]
        return {
            "id": id,
            "security_group_rule_id": id,
            "arn": self._arn(aws, "security-group-rule", id),
            "security_group_id": found["GroupId"],
            "ip_protocol": found["IpProtocol"],
            "from_port": found.get("FromPort"),
            "to_port": found.get("ToPort"),
            "cidr_ipv4": found.get("CidrIpv4"),
            "referenced_security_group_id": (found.get("ReferencedGroupInfo") or {}).get("GroupId"),
            "description": found.get("Description"),
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        revoke = getattr(aws("ec2"), f"revoke_security_group_{self.direction}")
        revoke(GroupId=state["security_group_id"], SecurityGroupRuleIds=[state["id"]])


class IngressRule(_Rule):
    type = "aws_vpc_security_group_ingress_rule"
    direction = "ingress"


class EgressRule(_Rule):
    type = "aws_vpc_security_group_egress_rule"
    direction = "egress"
