"""EC2: networks."""

from __future__ import annotations

from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, as_pairs, tag_changes, tags_given, tags_of


class _Tagged(Resource):
    """What has an id in EC2, and tags by that id."""

    def _tags_at_birth(self, want: Given, kind: str) -> list[dict[str, Any]]:
        tags = as_pairs(tags_given(want))
        return [{"ResourceType": kind, "Tags": tags}] if tags else []

    def _change_tags(self, aws: Clients, want: Given, state: State) -> None:
        added, removed = tag_changes(want, state)
        if added:
            aws("ec2").create_tags(Resources=[state["id"]], Tags=as_pairs(added))
        if removed:
            aws("ec2").delete_tags(Resources=[state["id"]], Tags=[{"Key": name} for name in removed])

    def update(self, aws: Clients, want: Given, state: State) -> None:
        self._change_tags(aws, want, state)

    def _arn(self, aws: Clients, kind: str, id: str) -> str:
        return f"arn:aws:ec2:{aws.region}:{aws.account}:{kind}/{id}"


class Vpc(_Tagged):
    type = "aws_vpc"
    replace = ("cidr_block", "instance_tenancy")
    defaults = {"instance_tenancy": "default", "enable_dns_support": True}

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("ec2").create_vpc(
            **want.pick("cidr_block", "instance_tenancy"), TagSpecifications=self._tags_at_birth(want, "vpc")
        )
        state = {"id": answer["Vpc"]["VpcId"]}
        self._attributes(aws, want, state["id"])
        return state

    def update(self, aws: Clients, want: Given, state: State) -> None:
        self._attributes(aws, want, state["id"])
        self._change_tags(aws, want, state)

    def _attributes(self, aws: Clients, want: Given, id: str) -> None:
        client = aws("ec2")
        client.modify_vpc_attribute(VpcId=id, EnableDnsSupport={"Value": bool(want["enable_dns_support"])})
        client.modify_vpc_attribute(VpcId=id, EnableDnsHostnames={"Value": bool(want["enable_dns_hostnames"])})

    def read(self, aws: Clients, state: State) -> State | None:
        client, id = aws("ec2"), state["id"]
        found = client.describe_vpcs(VpcIds=[id])["Vpcs"][0]
        by_vpc = [{"Name": "vpc-id", "Values": [id]}]
        groups = client.describe_security_groups(Filters=by_vpc)["SecurityGroups"]
        tables = client.describe_route_tables(Filters=by_vpc)["RouteTables"]
        main = next(
            (table["RouteTableId"] for table in tables if any(one.get("Main") for one in table["Associations"])), ""
        )

        def attribute(name: str, key: str) -> bool:
            return bool(client.describe_vpc_attribute(VpcId=id, Attribute=name)[key]["Value"])

        return {
            "id": id,
            "arn": self._arn(aws, "vpc", id),
            "cidr_block": found["CidrBlock"],
            "instance_tenancy": found.get("InstanceTenancy", "default"),
            "enable_dns_support": attribute("enableDnsSupport", "EnableDnsSupport"),
            "enable_dns_hostnames": attribute("enableDnsHostnames", "EnableDnsHostnames"),
            "enable_network_address_usage_metrics": False,
            "default_security_group_id": next(
                (group["GroupId"] for group in groups if group["GroupName"] == "default"), ""
            ),
            "default_network_acl_id": "",
            "default_route_table_id": main,
            "main_route_table_id": main,
            "dhcp_options_id": found.get("DhcpOptionsId", ""),
            "owner_id": found.get("OwnerId") or aws.account,
            "ipv6_association_id": "",
            "ipv6_cidr_block": "",
            "ipv6_cidr_block_network_border_group": "",
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").delete_vpc(VpcId=state["id"])


class Subnet(_Tagged):
    type = "aws_subnet"
    replace = ("vpc_id", "cidr_block", "availability_zone")
    defaults = {
        "map_public_ip_on_launch": False,
        "assign_ipv6_address_on_creation": False,
        "enable_dns64": False,
        "ipv6_native": False,
    }
    local = ("assign_ipv6_address_on_creation", "enable_dns64", "ipv6_native")

    def create(self, aws: Clients, want: Given) -> State:
        client = aws("ec2")
        answer = client.create_subnet(
            **want.pick("vpc_id", "cidr_block", availability_zone="AvailabilityZone"),
            TagSpecifications=self._tags_at_birth(want, "subnet"),
        )
        state = {"id": answer["Subnet"]["SubnetId"]}
        self._public(aws, want, state["id"])
        return state

    def update(self, aws: Clients, want: Given, state: State) -> None:
        self._public(aws, want, state["id"])
        self._change_tags(aws, want, state)

    def _public(self, aws: Clients, want: Given, id: str) -> None:
        public = bool(want["map_public_ip_on_launch"])
        aws("ec2").modify_subnet_attribute(SubnetId=id, MapPublicIpOnLaunch={"Value": public})

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ec2").describe_subnets(SubnetIds=[state["id"]])["Subnets"][0]
        return {
            "id": found["SubnetId"],
            "arn": found.get("SubnetArn") or self._arn(aws, "subnet", found["SubnetId"]),
            "vpc_id": found["VpcId"],
            "cidr_block": found["CidrBlock"],
            "availability_zone": found["AvailabilityZone"],
            "availability_zone_id": found.get("AvailabilityZoneId", ""),
            "map_public_ip_on_launch": found.get("MapPublicIpOnLaunch", False),
            "owner_id": found.get("OwnerId") or aws.account,
            "ipv6_cidr_block_association_id": "",
            "private_dns_hostname_type_on_launch": "ip-name",
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").delete_subnet(SubnetId=state["id"])


class RouteTable(_Tagged):
    type = "aws_route_table"
    replace = ("vpc_id",)

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("ec2").create_route_table(
            **want.pick("vpc_id"), TagSpecifications=self._tags_at_birth(want, "route-table")
        )
        return {"id": answer["RouteTable"]["RouteTableId"]}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ec2").describe_route_tables(RouteTableIds=[state["id"]])["RouteTables"][0]
        return {
            "id": found["RouteTableId"],
            "arn": self._arn(aws, "route-table", found["RouteTableId"]),
            "vpc_id": found["VpcId"],
            "owner_id": found.get("OwnerId") or aws.account,
            "propagating_vgws": [],
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").delete_route_table(RouteTableId=state["id"])


class RouteTableAssociation(Resource):
    type = "aws_route_table_association"
    replace = ("subnet_id", "route_table_id")

    def create(self, aws: Clients, want: Given) -> State:
        return {"id": aws("ec2").associate_route_table(**want.pick("subnet_id", "route_table_id"))["AssociationId"]}

    def read(self, aws: Clients, state: State) -> State | None:
        table = aws("ec2").describe_route_tables(RouteTableIds=[state["route_table_id"]])["RouteTables"][0]
        found = next((one for one in table["Associations"] if one["RouteTableAssociationId"] == state["id"]), None)
        if found is None:
            return None
        return {"id": state["id"], "subnet_id": found["SubnetId"], "route_table_id": table["RouteTableId"]}

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").disassociate_route_table(AssociationId=state["id"])


class Route(Resource):
    type = "aws_route"
    replace = ("route_table_id", "destination_cidr_block")
    _words = ("route_table_id", "destination_cidr_block", "gateway_id", "nat_gateway_id")

    def create(self, aws: Clients, want: Given) -> State:
        aws("ec2").create_route(**want.pick(*self._words))
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("ec2").replace_route(**want.pick(*self._words))

    def read(self, aws: Clients, state: State) -> State | None:
        table = aws("ec2").describe_route_tables(RouteTableIds=[state["route_table_id"]])["RouteTables"][0]
        cidr = state["destination_cidr_block"]
        found = next((one for one in table["Routes"] if one.get("DestinationCidrBlock") == cidr), None)
        if found is None:
            return None
        return {
            "id": f"{state['route_table_id']}-{cidr}",
            "route_table_id": state["route_table_id"],
            "destination_cidr_block": cidr,
            "gateway_id": found.get("GatewayId"),
            "nat_gateway_id": found.get("NatGatewayId"),
            "network_interface_id": "",
            "instance_id": "",
            "instance_owner_id": "",
            "origin": found.get("Origin", "CreateRoute"),
            "state": found.get("State", "active"),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").delete_route(
            RouteTableId=state["route_table_id"], DestinationCidrBlock=state["destination_cidr_block"]
        )


class InternetGateway(_Tagged):
    type = "aws_internet_gateway"
    replace = ("vpc_id",)

    def create(self, aws: Clients, want: Given) -> State:
        client = aws("ec2")
        answer = client.create_internet_gateway(TagSpecifications=self._tags_at_birth(want, "internet-gateway"))
        id = answer["InternetGateway"]["InternetGatewayId"]
        client.attach_internet_gateway(InternetGatewayId=id, VpcId=want["vpc_id"])
        return {"id": id}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ec2").describe_internet_gateways(InternetGatewayIds=[state["id"]])["InternetGateways"][0]
        return {
            "id": state["id"],
            "arn": self._arn(aws, "internet-gateway", state["id"]),
            "owner_id": found.get("OwnerId") or aws.account,
            "vpc_id": next((one["VpcId"] for one in found["Attachments"]), ""),
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        client = aws("ec2")
        client.detach_internet_gateway(InternetGatewayId=state["id"], VpcId=state["vpc_id"])
        client.delete_internet_gateway(InternetGatewayId=state["id"])


class ElasticIp(_Tagged):
    type = "aws_eip"
    replace = ("domain",)

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("ec2").allocate_address(
            **want.pick("domain"), TagSpecifications=self._tags_at_birth(want, "elastic-ip")
        )
        return {"id": answer["AllocationId"]}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ec2").describe_addresses(AllocationIds=[state["id"]])["Addresses"][0]
        empty = ("carrier_ip", "customer_owned_ip", "instance", "ipam_pool_id", "network_border_group", "private_dns")
        return {
            "id": found["AllocationId"],
            "allocation_id": found["AllocationId"],
            "arn": self._arn(aws, "elastic-ip", found["AllocationId"]),
            "domain": found.get("Domain", "vpc"),
            "public_ip": found["PublicIp"],
            "public_dns": "",
            "public_ipv4_pool": "",
            "ptr_record": "",
            "private_ip": found.get("PrivateIpAddress", ""),
            "association_id": found.get("AssociationId", ""),
            "network_interface": found.get("NetworkInterfaceId", ""),
            **dict.fromkeys(empty, ""),
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").release_address(AllocationId=state["id"])


class NatGateway(_Tagged):
    type = "aws_nat_gateway"
    replace = ("allocation_id", "subnet_id", "connectivity_type")
    defaults = {"connectivity_type": "public"}
    forgotten = ("allocation_id",)

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("ec2").create_nat_gateway(
            **want.pick("allocation_id", "subnet_id", "connectivity_type"),
            TagSpecifications=self._tags_at_birth(want, "natgateway"),
        )
        return {"id": answer["NatGateway"]["NatGatewayId"]}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ec2").describe_nat_gateways(NatGatewayIds=[state["id"]])["NatGateways"][0]
        if found["State"] in ("deleting", "deleted"):
            return None
        address = next(iter(found.get("NatGatewayAddresses") or [{}]))
        return {
            "id": found["NatGatewayId"],
            "allocation_id": address.get("AllocationId"),
            "subnet_id": found["SubnetId"],
            "vpc_id": found.get("VpcId", ""),
            "connectivity_type": found.get("ConnectivityType", "public"),
            "association_id": address.get("AssociationId", ""),
            "network_interface_id": address.get("NetworkInterfaceId", ""),
            "private_ip": address.get("PrivateIp", ""),
            "public_ip": address.get("PublicIp", ""),
            "availability_mode": "zonal",
            "auto_provision_zones": "",
            "auto_scaling_ips": "",
            "regional_nat_gateway_address": [],
            "regional_nat_gateway_auto_mode": "",
            "route_table_id": "",
            "secondary_allocation_ids": [],
            "secondary_private_ip_address_count": 0,
            "secondary_private_ip_addresses": [],
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").delete_nat_gateway(NatGatewayId=state["id"])
        aws("ec2").get_waiter("nat_gateway_deleted").wait(NatGatewayIds=[state["id"]], WaiterConfig={"Delay": 1})


class VpcEndpoint(_Tagged):
    type = "aws_vpc_endpoint"
    replace = ("vpc_id", "service_name", "vpc_endpoint_type")
    defaults = {"vpc_endpoint_type": "Gateway"}
    forgotten = ("security_group_ids", "private_dns_enabled")
    json = ("policy",)

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("ec2").create_vpc_endpoint(
            **want.pick("vpc_id", "service_name", "vpc_endpoint_type", "private_dns_enabled", "route_table_ids"),
            **want.pick("subnet_ids", "security_group_ids", policy="PolicyDocument"),
            TagSpecifications=self._tags_at_birth(want, "vpc-endpoint"),
        )
        return {"id": answer["VpcEndpoint"]["VpcEndpointId"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        changes: dict[str, Any] = {}
        for name, word in (
            ("subnet_ids", "Subnet"),
            ("security_group_ids", "SecurityGroup"),
            ("route_table_ids", "RouteTable"),
        ):
            before, after = set(state[name] or ()), set(want[name] or ())
            changes |= {f"Add{word}Ids": sorted(after - before)} if after - before else {}
            changes |= {f"Remove{word}Ids": sorted(before - after)} if before - after else {}
        if want["private_dns_enabled"] != state["private_dns_enabled"]:
            changes["PrivateDnsEnabled"] = want["private_dns_enabled"]
        if changes:
            aws("ec2").modify_vpc_endpoint(VpcEndpointId=state["id"], **changes)
        self._change_tags(aws, want, state)

    def read(self, aws: Clients, state: State) -> State | None:
        answer = aws("ec2").describe_vpc_endpoints(VpcEndpointIds=[state["id"]])["VpcEndpoints"]
        if not answer or answer[0].get("State", "").lower() in ("deleting", "deleted"):
            return None
        found = answer[0]
        return {
            "id": found["VpcEndpointId"],
            "arn": self._arn(aws, "vpc-endpoint", found["VpcEndpointId"]),
            "vpc_id": found["VpcId"],
            "service_name": found["ServiceName"],
            "service_region": aws.region,
            "vpc_endpoint_type": found["VpcEndpointType"],
            "private_dns_enabled": found.get("PrivateDnsEnabled", False),
            "route_table_ids": found.get("RouteTableIds") or [],
            "subnet_ids": found.get("SubnetIds") or [],
            "security_group_ids": [group["GroupId"] for group in found.get("Groups") or []],
            "policy": found.get("PolicyDocument") or "",
            "state": found.get("State", "available"),
            "dns_entry": [],
            "cidr_blocks": [],
            "network_interface_ids": found.get("NetworkInterfaceIds") or [],
            "owner_id": found.get("OwnerId") or aws.account,
            "prefix_list_id": "",
            "requester_managed": False,
            "ip_address_type": "ipv4",
            "tags_all": tags_of(found.get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ec2").delete_vpc_endpoints(VpcEndpointIds=[state["id"]])
