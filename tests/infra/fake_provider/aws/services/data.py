"""Data sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..clients import Clients


def caller_identity(aws: Clients, config: Mapping[str, Any]) -> dict[str, Any]:
    found = aws("sts").get_caller_identity()
    return {"id": found["Account"], "account_id": found["Account"], "arn": found["Arn"], "user_id": found["UserId"]}


def partition(aws: Clients, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "aws", "partition": "aws", "dns_suffix": "amazonaws.com", "reverse_dns_prefix": "com.amazonaws"}


def availability_zones(aws: Clients, config: Mapping[str, Any]) -> dict[str, Any]:
    filters = [{"Name": one["name"], "Values": list(one["values"])} for one in config["filter"] or ()]
    if config["state"]:
        filters.append({"Name": "state", "Values": [config["state"]]})
    zones = aws("ec2").describe_availability_zones(Filters=filters)["AvailabilityZones"]
    return {
        "id": aws.region,
        "region": aws.region,
        "names": [zone["ZoneName"] for zone in zones],
        "zone_ids": [zone.get("ZoneId", "") for zone in zones],
        "group_names": sorted({zone.get("GroupName", aws.region) for zone in zones}),
    }


def vpc(aws: Clients, config: Mapping[str, Any]) -> dict[str, Any]:
    found = aws("ec2").describe_vpcs(VpcIds=[config["id"]])["Vpcs"][0]
    return {
        "id": found["VpcId"],
        "region": aws.region,
        "arn": f"arn:aws:ec2:{aws.region}:{aws.account}:vpc/{found['VpcId']}",
        "cidr_block": found["CidrBlock"],
        "cidr_block_associations": [],
        "default": found.get("IsDefault", False),
        "state": found.get("State", "available"),
        "dhcp_options_id": found.get("DhcpOptionsId", ""),
        "enable_dns_hostnames": True,
        "enable_dns_support": True,
        "enable_network_address_usage_metrics": False,
        "instance_tenancy": found.get("InstanceTenancy", "default"),
        "ipv6_association_id": "",
        "ipv6_cidr_block": "",
        "main_route_table_id": "",
        "owner_id": found.get("OwnerId") or aws.account,
    }


SOURCES = {
    "aws_availability_zones": availability_zones,
    "aws_caller_identity": caller_identity,
    "aws_partition": partition,
    "aws_vpc": vpc,
}
