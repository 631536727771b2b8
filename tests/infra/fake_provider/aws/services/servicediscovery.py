"""Cloud Map: names in a private domain."""

from __future__ import annotations

import time
from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, as_pairs, tag_changes, tags_given, tags_of


class _Tagged(Resource):
    def _change_tags(self, aws: Clients, want: Given, state: State) -> None:
        added, removed = tag_changes(want, state)
        if added:
            aws("servicediscovery").tag_resource(ResourceARN=state["arn"], Tags=as_pairs(added))
        if removed:
            aws("servicediscovery").untag_resource(ResourceARN=state["arn"], TagKeys=removed)

    def _tags(self, aws: Clients, arn: str) -> dict[str, str]:
        return tags_of(aws("servicediscovery").list_tags_for_resource(ResourceARN=arn).get("Tags"))


class Namespace(_Tagged):
    type = "aws_service_discovery_private_dns_namespace"
    replace = ("name", "vpc")
    # the namespace knows its zone, and the zone its VPC
    kept = ("vpc",)

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("servicediscovery").create_private_dns_namespace(
            **want.pick("name", "description", "vpc"), Tags=as_pairs(tags_given(want))
        )
        return {"id": _target(aws, answer["OperationId"])}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        if want["description"] != state["description"]:
            answer = aws("servicediscovery").update_private_dns_namespace(
                Id=state["id"], Namespace={"Description": want["description"]}
            )
            _target(aws, answer["OperationId"])
        self._change_tags(aws, want, state)

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("servicediscovery").get_namespace(Id=state["id"])["Namespace"]
        zone = ((found.get("Properties") or {}).get("DnsProperties") or {}).get("HostedZoneId", "")
        return {
            "id": found["Id"],
            "arn": found["Arn"],
            "name": found["Name"],
            "description": found.get("Description"),
            "hosted_zone": zone,
            "tags_all": self._tags(aws, found["Arn"]),
        }

    def delete(self, aws: Clients, state: State) -> None:
        _target(aws, aws("servicediscovery").delete_namespace(Id=state["id"])["OperationId"])


class Service(_Tagged):
    type = "aws_service_discovery_service"
    replace = ("name", "namespace_id")
    defaults = {"force_destroy": False}
    local = ("force_destroy",)

    def create(self, aws: Clients, want: Given) -> State:
        dns = self._dns(want)
        answer = aws("servicediscovery").create_service(
            **want.pick("name", "description"),
            NamespaceId=dns.pop("NamespaceId"),
            DnsConfig=dns,
            Tags=as_pairs(tags_given(want)),
        )
        return {"id": answer["Service"]["Id"]}

    def _dns(self, want: Given) -> dict[str, Any]:
        block = want.block("dns_config")
        assert block is not None
        return {
            **block.pick("namespace_id", "routing_policy"),
            "DnsRecords": [{"Type": one["type"], "TTL": one["ttl"]} for one in block.blocks("dns_records")],
        }

    def update(self, aws: Clients, want: Given, state: State) -> None:
        records = self._dns(want)["DnsRecords"]
        answer = aws("servicediscovery").update_service(
            Id=state["id"], Service={"Description": want["description"], "DnsConfig": {"DnsRecords": records}}
        )
        _target(aws, answer["OperationId"])
        self._change_tags(aws, want, state)

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("servicediscovery").get_service(Id=state["id"])["Service"]
        dns = found["DnsConfig"]
        namespace = found.get("NamespaceId") or dns.get("NamespaceId")
        return {
            "id": found["Id"],
            "arn": found["Arn"],
            "name": found["Name"],
            "description": found.get("Description"),
            "namespace_id": namespace,
            "type": found.get("Type", "DNS_HTTP"),
            "dns_config": [
                {
                    "namespace_id": namespace,
                    "routing_policy": dns.get("RoutingPolicy"),
                    "dns_records": [{"type": one["Type"], "ttl": one["TTL"]} for one in dns["DnsRecords"]],
                }
            ],
            "tags_all": self._tags(aws, found["Arn"]),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("servicediscovery").delete_service(Id=state["id"])


def _target(aws: Clients, operation: str) -> str:
    """What an operation has made, once it is done."""
    for _ in range(60):
        found = aws("servicediscovery").get_operation(OperationId=operation)["Operation"]
        if found["Status"] == "SUCCESS":
            return str(next(iter(found.get("Targets", {}).values()), ""))
        if found["Status"] == "FAIL":
            raise LookupError(found.get("ErrorMessage", "the operation failed"))
        time.sleep(0.5)
    raise LookupError(f"the operation {operation} does not end")
