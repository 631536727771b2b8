"""ECS."""

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
            aws("ecs").tag_resource(resourceArn=state["arn"], tags=as_pairs(added, "key", "value"))
        if removed:
            aws("ecs").untag_resource(resourceArn=state["arn"], tagKeys=removed)

    def _tags(self, aws: Clients, arn: str) -> dict[str, str]:
        return tags_of(aws("ecs").list_tags_for_resource(resourceArn=arn).get("tags"), "key", "value")


class Cluster(_Tagged):
    type = "aws_ecs_cluster"
    replace = ("name",)

    def create(self, aws: Clients, want: Given) -> State:
        aws("ecs").create_cluster(
            clusterName=want["name"],
            settings=self._settings(want),
            tags=as_pairs(tags_given(want), "key", "value"),
        )
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("ecs").update_cluster(cluster=state["name"], settings=self._settings(want))
        self._change_tags(aws, want, state)

    def _settings(self, want: Given) -> list[dict[str, str]]:
        return [{"name": one["name"], "value": one["value"]} for one in want.blocks("setting")]

    def read(self, aws: Clients, state: State) -> State | None:
        answer = aws("ecs").describe_clusters(clusters=[state["name"]], include=["SETTINGS", "TAGS"])["clusters"]
        if not answer or answer[0]["status"] == "INACTIVE":
            return None
        found = answer[0]
        return {
            "id": found["clusterArn"],
            "arn": found["clusterArn"],
            "name": found["clusterName"],
            "setting": [{"name": one["name"], "value": one["value"]} for one in found.get("settings") or ()],
            "tags_all": self._tags(aws, found["clusterArn"]),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("ecs").delete_cluster(cluster=state["name"])


class TaskDefinition(_Tagged):
    type = "aws_ecs_task_definition"
    replace = (
        *("family", "container_definitions", "cpu", "memory", "network_mode", "requires_compatibilities"),
        *("task_role_arn", "execution_role_arn", "volume", "runtime_platform"),
    )
    defaults = {"skip_destroy": False, "track_latest": False}
    json = ("container_definitions",)
    local = ("skip_destroy", "track_latest")

    def create(self, aws: Clients, want: Given) -> State:
        platform = want.block("runtime_platform")
        answer = aws("ecs").register_task_definition(
            **want.pick(
                family="family",
                cpu="cpu",
                memory="memory",
                network_mode="networkMode",
                requires_compatibilities="requiresCompatibilities",
                task_role_arn="taskRoleArn",
                execution_role_arn="executionRoleArn",
            ),
            containerDefinitions=json.loads(want["container_definitions"]),
            volumes=[self._volume(one) for one in want.blocks("volume")],
            runtimePlatform=platform.pick(
                cpu_architecture="cpuArchitecture", operating_system_family="operatingSystemFamily"
            )
            if platform
            else {},
            tags=as_pairs(tags_given(want), "key", "value"),
        )
        return {"arn": answer["taskDefinition"]["taskDefinitionArn"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        self._change_tags(aws, want, state)

    def _volume(self, one: Given) -> dict[str, Any]:
        efs = one.block("efs_volume_configuration")
        one.forgo("configure_at_launch")
        if efs is None:
            return {"name": one["name"]}
        access = efs.block("authorization_config")
        return {
            "name": one["name"],
            "efsVolumeConfiguration": {
                **efs.pick(file_system_id="fileSystemId", transit_encryption="transitEncryption"),
                **efs.pick(root_directory="rootDirectory"),
                **({"authorizationConfig": access.pick(access_point_id="accessPointId", iam="iam")} if access else {}),
            },
        }

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("ecs").describe_task_definition(taskDefinition=state["arn"])["taskDefinition"]
        if found["status"] != "ACTIVE":
            return None
        platform = found.get("runtimePlatform") or {}
        arn = found["taskDefinitionArn"]
        return {
            "id": found["family"],
            "arn": arn,
            "arn_without_revision": arn.rpartition(":")[0],
            "family": found["family"],
            "revision": found["revision"],
            "container_definitions": json.dumps(found["containerDefinitions"]),
            "cpu": found.get("cpu"),
            "memory": found.get("memory"),
            "network_mode": found.get("networkMode"),
            "requires_compatibilities": found.get("requiresCompatibilities") or [],
            "task_role_arn": found.get("taskRoleArn"),
            "execution_role_arn": found.get("executionRoleArn"),
            "enable_fault_injection": False,
            "runtime_platform": [
                {
                    "cpu_architecture": platform.get("cpuArchitecture"),
                    "operating_system_family": platform.get("operatingSystemFamily"),
                }
            ]
            if platform
            else [],
            "volume": [self._found(one) for one in found.get("volumes") or ()],
            "tags_all": self._tags(aws, arn),
        }

    def _found(self, one: dict[str, Any]) -> dict[str, Any]:
        efs = one.get("efsVolumeConfiguration")
        volume: dict[str, Any] = {"name": one["name"], "configure_at_launch": False, "efs_volume_configuration": []}
        if efs:
            access = efs.get("authorizationConfig") or {}
            volume["efs_volume_configuration"] = [
                {
                    "file_system_id": efs["fileSystemId"],
                    "root_directory": efs.get("rootDirectory"),
                    "transit_encryption": efs.get("transitEncryption"),
                    "authorization_config": [{"access_point_id": access.get("accessPointId"), "iam": access.get("iam")}]
                    if access
                    else [],
                }
            ]
        return volume

    def delete(self, aws: Clients, state: State) -> None:
        aws("ecs").deregister_task_definition(taskDefinition=state["arn"])

    def same(self, name: str, one: Any, other: Any) -> bool:
        if name != "container_definitions" or not one or not other:
            return super().same(name, one, other)
        return bool(_containers(one) == _containers(other))


def _containers(text: str) -> Any:
    """Without what ECS adds to each: defaults that say nothing."""
    empty: list[Any] = [None, [], {}, 0, False]
    return [
        {
            key: [{k: v for k, v in item.items() if k != "hostPort"} for item in value]
            if key == "portMappings"
            else value
            for key, value in container.items()
            if value not in empty
        }
        for container in json.loads(text)
    ]


class Service(_Tagged):
    type = "aws_ecs_service"
    replace = ("name", "cluster", "launch_type", "service_registries")
    defaults = {
        "scheduling_strategy": "REPLICA",
        "enable_ecs_managed_tags": False,
        "enable_execute_command": False,
        "wait_for_steady_state": False,
    }
    local = ("wait_for_steady_state", "scheduling_strategy", "enable_ecs_managed_tags", "enable_execute_command")

    def create(self, aws: Clients, want: Given) -> State:
        registries = [{"registryArn": one["registry_arn"]} for one in want.blocks("service_registries")]
        answer = aws("ecs").create_service(
            **want.pick(name="serviceName", launch_type="launchType"),
            **self._changeable(want),
            serviceRegistries=registries,
            tags=as_pairs(tags_given(want), "key", "value"),
        )
        return {"arn": answer["service"]["serviceArn"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        changes = self._changeable(want)
        aws("ecs").update_service(service=state["name"], **changes)
        self._change_tags(aws, want, state)

    def _changeable(self, want: Given) -> dict[str, Any]:
        network, breaker = want.block("network_configuration"), want.block("deployment_circuit_breaker")
        deployment = want.pick(
            deployment_maximum_percent="maximumPercent",
            deployment_minimum_healthy_percent="minimumHealthyPercent",
        )
        if breaker:
            deployment["deploymentCircuitBreaker"] = breaker.pick(enable="enable", rollback="rollback")
        vpc: dict[str, Any] = {}
        if network:
            vpc = network.pick(subnets="subnets", security_groups="securityGroups")
            vpc["assignPublicIp"] = "ENABLED" if network["assign_public_ip"] else "DISABLED"
        return {
            **want.pick(cluster="cluster", task_definition="taskDefinition", desired_count="desiredCount"),
            "deploymentConfiguration": deployment,
            "networkConfiguration": {"awsvpcConfiguration": vpc},
        }

    def read(self, aws: Clients, state: State) -> State | None:
        answer = aws("ecs").describe_services(cluster=state["cluster"], services=[state["name"]])["services"]
        if not answer or answer[0]["status"] != "ACTIVE":
            return None
        found = answer[0]
        deployment = found.get("deploymentConfiguration") or {}
        breaker = deployment.get("deploymentCircuitBreaker")
        vpc = (found.get("networkConfiguration") or {}).get("awsvpcConfiguration")
        return {
            "id": found["serviceArn"],
            "arn": found["serviceArn"],
            "name": found["serviceName"],
            "cluster": found["clusterArn"],
            "task_definition": found["taskDefinition"],
            "launch_type": found.get("launchType"),
            "platform_version": found.get("platformVersion", "LATEST"),
            "desired_count": found["desiredCount"],
            "iam_role": "",
            "availability_zone_rebalancing": "DISABLED",
            "triggers": {},
            "deployment_maximum_percent": deployment.get("maximumPercent"),
            "deployment_minimum_healthy_percent": deployment.get("minimumHealthyPercent"),
            "deployment_circuit_breaker": [{"enable": breaker["enable"], "rollback": breaker["rollback"]}]
            if breaker
            else [],
            "network_configuration": [
                {
                    "subnets": vpc["subnets"],
                    "security_groups": vpc.get("securityGroups") or [],
                    "assign_public_ip": vpc.get("assignPublicIp") == "ENABLED",
                }
            ]
            if vpc
            else [],
            "service_registries": [
                {"registry_arn": one["registryArn"]} for one in found.get("serviceRegistries") or ()
            ],
            "tags_all": self._tags(aws, found["serviceArn"]),
        }

    def delete(self, aws: Clients, state: State) -> None:
        client = aws("ecs")
        client.update_service(cluster=state["cluster"], service=state["name"], desiredCount=0)
        client.delete_service(cluster=state["cluster"], service=state["name"], force=True)
