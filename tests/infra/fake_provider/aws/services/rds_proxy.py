"""RDS Proxy."""

from __future__ import annotations

from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State
from .rds import Rds


class Proxy(Rds):
    type = "aws_db_proxy"
    replace = ("name", "engine_family", "vpc_subnet_ids")
    defaults = {"debug_logging": False}

    def create(self, aws: Clients, want: Given) -> State:
        aws("rds").create_db_proxy(
            **want.pick("engine_family", "vpc_subnet_ids", name="DBProxyName"),
            **self._changeable(want),
            **want.pick("vpc_security_group_ids"),
            Tags=self._pairs(want),
        )
        return {"name": want["name"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("rds").modify_db_proxy(
            DBProxyName=state["name"], **self._changeable(want), **want.pick(vpc_security_group_ids="SecurityGroups")
        )
        self._change_tags(aws, want, state)

    def _changeable(self, want: Given) -> dict[str, Any]:
        auth = [
            one.pick("auth_scheme", "secret_arn", iam_auth="IAMAuth", description="Description")
            for one in want.blocks("auth")
        ]
        words = want.pick("role_arn", "idle_client_timeout", "debug_logging", require_tls="RequireTLS")
        return {**words, "Auth": auth}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("rds").describe_db_proxies(DBProxyName=state["name"])["DBProxies"][0]
        return {
            "id": found["DBProxyName"],
            "name": found["DBProxyName"],
            "arn": found["DBProxyArn"],
            "engine_family": found["EngineFamily"],
            "role_arn": found["RoleArn"],
            "require_tls": found["RequireTLS"],
            "idle_client_timeout": found["IdleClientTimeout"],
            "debug_logging": found.get("DebugLogging", False),
            "default_auth_scheme": "NONE",
            "endpoint": found["Endpoint"],
            "vpc_subnet_ids": found["VpcSubnetIds"],
            "vpc_security_group_ids": found["VpcSecurityGroupIds"],
            "auth": [
                {
                    "auth_scheme": one["AuthScheme"],
                    "iam_auth": one.get("IAMAuth"),
                    "secret_arn": one["SecretArn"],
                    "client_password_auth_type": one.get("ClientPasswordAuthType", ""),
                    "description": one.get("Description") or None,
                    "username": one.get("UserName") or None,
                }
                for one in found["Auth"]
            ],
            "tags_all": self._tags(aws, found["DBProxyArn"]),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("rds").delete_db_proxy(DBProxyName=state["name"])


class DefaultTargetGroup(Resource):
    type = "aws_db_proxy_default_target_group"
    replace = ("db_proxy_name",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        pool = want.block("connection_pool_config")
        words = ("max_connections_percent", "max_idle_connections_percent", "connection_borrow_timeout")
        aws("rds").modify_db_proxy_target_group(
            TargetGroupName="default",
            **want.pick(db_proxy_name="DBProxyName"),
            ConnectionPoolConfig=pool.pick(*words) if pool else {},
        )

    def read(self, aws: Clients, state: State) -> State | None:
        groups = aws("rds").describe_db_proxy_target_groups(DBProxyName=state["db_proxy_name"])["TargetGroups"]
        found = next(group for group in groups if group["TargetGroupName"] == "default")
        pool = found["ConnectionPoolConfig"]
        return {
            "id": state["db_proxy_name"],
            "db_proxy_name": state["db_proxy_name"],
            "name": "default",
            "arn": found["TargetGroupArn"],
            "connection_pool_config": [
                {
                    "max_connections_percent": pool.get("MaxConnectionsPercent"),
                    "max_idle_connections_percent": pool.get("MaxIdleConnectionsPercent"),
                    "connection_borrow_timeout": pool.get("ConnectionBorrowTimeout"),
                }
            ],
        }

    def delete(self, aws: Clients, state: State) -> None:
        """It goes with its proxy."""


class Target(Resource):
    type = "aws_db_proxy_target"
    replace = ("db_proxy_name", "target_group_name", "db_instance_identifier", "db_cluster_identifier")

    def create(self, aws: Clients, want: Given) -> State:
        aws("rds").register_db_proxy_targets(**self._place(want), **self._which(want))
        return {}

    def _place(self, source: Given | State) -> dict[str, Any]:
        return {"DBProxyName": source["db_proxy_name"], "TargetGroupName": source["target_group_name"]}

    def _which(self, source: Given | State) -> dict[str, Any]:
        instance, cluster = source["db_instance_identifier"], source["db_cluster_identifier"]
        return {"DBInstanceIdentifiers": [instance]} if instance else {"DBClusterIdentifiers": [cluster]}

    def read(self, aws: Clients, state: State) -> State | None:
        wanted = state["db_instance_identifier"] or state["db_cluster_identifier"]
        targets = aws("rds").describe_db_proxy_targets(**self._place(state))["Targets"]
        found = next(
            (one for one in targets if wanted in (one.get("RdsResourceId"), one.get("TrackedClusterId"))), None
        )
        if found is None:
            return None
        return {
            "id": f"{state['db_proxy_name']}/default/{found['Type']}/{wanted}",
            "db_proxy_name": state["db_proxy_name"],
            "target_group_name": state["target_group_name"],
            "db_instance_identifier": state["db_instance_identifier"],
            "db_cluster_identifier": state["db_cluster_identifier"],
            "endpoint": found.get("Endpoint") or "",
            "port": found.get("Port") or 0,
            "rds_resource_id": found.get("RdsResourceId") or "",
            "target_arn": found.get("TargetArn") or "",
            "tracked_cluster_id": found.get("TrackedClusterId") or "",
            "type": found["Type"],
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("rds").deregister_db_proxy_targets(**self._place(state), **self._which(state))
