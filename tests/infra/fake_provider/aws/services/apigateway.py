"""API Gateway, version 2."""

from __future__ import annotations

from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, tag_changes, tags_given


class Api(Resource):
    type = "aws_apigatewayv2_api"
    replace = ("protocol_type",)
    defaults = {
        "api_key_selection_expression": "$request.header.x-api-key",
        "route_selection_expression": "$request.method $request.path",
        "disable_execute_api_endpoint": False,
        "fail_on_warnings": False,
    }
    local = ("fail_on_warnings", "api_key_selection_expression", "route_selection_expression")

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("apigatewayv2").create_api(
            **want.pick("protocol_type"), **self._changeable(want), Tags=tags_given(want)
        )
        return {"id": answer["ApiId"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client = aws("apigatewayv2")
        changes = self._changeable(want)
        if state["cors_configuration"] and "CorsConfiguration" not in changes:
            client.delete_cors_configuration(ApiId=state["id"])
        client.update_api(ApiId=state["id"], **changes)
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(ResourceArn=state["arn"], Tags=added)
        if removed:
            client.untag_resource(ResourceArn=state["arn"], TagKeys=removed)

    def _changeable(self, want: Given) -> dict[str, Any]:
        cors = want.block("cors_configuration")
        words = ("allow_credentials", "allow_headers", "allow_methods", "allow_origins", "expose_headers", "max_age")
        return {
            **want.pick("name", "disable_execute_api_endpoint"),
            "Description": want["description"] or "",
            **({"CorsConfiguration": cors.pick(*words)} if cors else {}),
        }

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("apigatewayv2").get_api(ApiId=state["id"])
        cors = found.get("CorsConfiguration")
        return {
            "id": found["ApiId"],
            "name": found["Name"],
            "protocol_type": found["ProtocolType"],
            "description": found.get("Description") or "",
            "api_endpoint": found["ApiEndpoint"],
            "arn": f"arn:aws:apigateway:{aws.region}::/apis/{found['ApiId']}",
            "execution_arn": f"arn:aws:execute-api:{aws.region}:{aws.account}:{found['ApiId']}",
            "disable_execute_api_endpoint": found.get("DisableExecuteApiEndpoint", False),
            "ip_address_type": found.get("IpAddressType", "ipv4"),
            "cors_configuration": [
                {
                    "allow_credentials": cors.get("AllowCredentials"),
                    "allow_headers": cors.get("AllowHeaders"),
                    "allow_methods": cors.get("AllowMethods"),
                    "allow_origins": cors.get("AllowOrigins"),
                    "expose_headers": cors.get("ExposeHeaders"),
                    "max_age": cors.get("MaxAge"),
                }
            ]
            if cors
            else [],
            "tags_all": found.get("Tags") or {},
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("apigatewayv2").delete_api(ApiId=state["id"])


class Integration(Resource):
    type = "aws_apigatewayv2_integration"
    replace = ("api_id", "integration_type")
    defaults = {"connection_type": "INTERNET"}
    local = ("connection_type",)

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("apigatewayv2").create_integration(**self._parameters(want), **want.pick("integration_type"))
        return {"id": answer["IntegrationId"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("apigatewayv2").update_integration(IntegrationId=state["id"], **self._parameters(want))

    def _parameters(self, want: Given) -> dict[str, Any]:
        return want.pick(
            "api_id",
            "integration_uri",
            "integration_method",
            "payload_format_version",
            timeout_milliseconds="TimeoutInMillis",
        )

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("apigatewayv2").get_integration(ApiId=state["api_id"], IntegrationId=state["id"])
        return {
            "id": found["IntegrationId"],
            "api_id": state["api_id"],
            "integration_type": found["IntegrationType"],
            "integration_uri": found["IntegrationUri"],
            "integration_method": found.get("IntegrationMethod"),
            "payload_format_version": found.get("PayloadFormatVersion"),
            "timeout_milliseconds": found.get("TimeoutInMillis", 30000),
            "integration_response_selection_expression": "",
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("apigatewayv2").delete_integration(ApiId=state["api_id"], IntegrationId=state["id"])


class Route(Resource):
    type = "aws_apigatewayv2_route"
    replace = ("api_id",)
    defaults = {"authorization_type": "NONE", "api_key_required": False}
    local = ("api_key_required",)
    _words = ("api_id", "route_key", "target", "authorization_type")

    def create(self, aws: Clients, want: Given) -> State:
        return {"id": aws("apigatewayv2").create_route(**want.pick(*self._words))["RouteId"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("apigatewayv2").update_route(RouteId=state["id"], **want.pick(*self._words))

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("apigatewayv2").get_route(ApiId=state["api_id"], RouteId=state["id"])
        return {
            "id": found["RouteId"],
            "api_id": state["api_id"],
            "route_key": found["RouteKey"],
            "target": found.get("Target"),
            "authorization_type": found.get("AuthorizationType", "NONE"),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("apigatewayv2").delete_route(ApiId=state["api_id"], RouteId=state["id"])


class Stage(Resource):
    type = "aws_apigatewayv2_stage"
    replace = ("api_id", "name")
    volatile = ("deployment_id",)

    def create(self, aws: Clients, want: Given) -> State:
        aws("apigatewayv2").create_stage(**self._parameters(want), Tags=tags_given(want))
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client = aws("apigatewayv2")
        client.update_stage(**self._parameters(want))
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(ResourceArn=state["arn"], Tags=added)
        if removed:
            client.untag_resource(ResourceArn=state["arn"], TagKeys=removed)

    def _parameters(self, want: Given) -> dict[str, Any]:
        routes, log = want.block("default_route_settings"), want.block("access_log_settings")
        return {
            **want.pick("api_id", "auto_deploy", "description", name="StageName"),
            **(
                {"DefaultRouteSettings": routes.pick("throttling_rate_limit", "throttling_burst_limit")}
                if routes
                else {}
            ),
            **({"AccessLogSettings": log.pick("destination_arn", "format")} if log else {}),
        }

    def read(self, aws: Clients, state: State) -> State | None:
        api, name = state["api_id"], state["name"]
        found = aws("apigatewayv2").get_stage(ApiId=api, StageName=name)
        endpoint = aws("apigatewayv2").get_api(ApiId=api)["ApiEndpoint"]
        routes, log = found.get("DefaultRouteSettings") or {}, found.get("AccessLogSettings") or {}
        return {
            "id": name,
            "api_id": api,
            "name": found["StageName"],
            "auto_deploy": found.get("AutoDeploy", False),
            "description": found.get("Description"),
            "arn": f"arn:aws:apigateway:{aws.region}::/apis/{api}/stages/{name}",
            "execution_arn": f"arn:aws:execute-api:{aws.region}:{aws.account}:{api}/{name}",
            "invoke_url": f"{endpoint}/" if name == "$default" else f"{endpoint}/{name}",
            "deployment_id": found.get("DeploymentId") or "",
            "default_route_settings": [
                {
                    "throttling_rate_limit": routes.get("ThrottlingRateLimit"),
                    "throttling_burst_limit": routes.get("ThrottlingBurstLimit"),
                    "logging_level": "",
                }
            ]
            if routes
            else [],
            "access_log_settings": [{"destination_arn": log["DestinationArn"], "format": log["Format"]}] if log else [],
            "tags_all": found.get("Tags") or {},
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("apigatewayv2").delete_stage(ApiId=state["api_id"], StageName=state["name"])
