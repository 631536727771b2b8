"""Lambda."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, is_gone, tag_changes, tags_given


class Function(Resource):
    type = "aws_lambda_function"
    replace = ("function_name", "package_type")
    defaults = {"memory_size": 128, "timeout": 3, "package_type": "Zip"}
    # the package's place and digest are not told again in these words
    kept = ("s3_bucket", "s3_key", "source_code_hash")
    local = ("publish", "skip_destroy", "replace_security_groups_on_destroy")
    volatile = (
        "last_modified",
        "qualified_arn",
        "qualified_invoke_arn",
        "version",
        "code_sha256",
        "source_code_size",
    )

    def create(self, aws: Clients, want: Given) -> State:
        want.forgo("source_code_hash", "publish")
        answer = aws("lambda").create_function(
            Code=want.pick("s3_bucket", s3_key="S3Key"),
            PackageType=want["package_type"],
            Publish=True,
            **want.pick("architectures"),
            Tags=tags_given(want),
            **self._configuration(want),
        )
        self._wait(aws, want["function_name"])
        self._reserve(aws, want)
        return {"function_name": answer["FunctionName"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        want.forgo("source_code_hash", "publish", "package_type")
        client, name = aws("lambda"), state["function_name"]
        client.update_function_configuration(**self._configuration(want))
        self._wait(aws, name)
        client.update_function_code(FunctionName=name, **want.pick("architectures", "s3_bucket", s3_key="S3Key"))
        self._wait(aws, name)
        self._reserve(aws, want)
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(Resource=state["arn"], Tags=added)
        if removed:
            client.untag_resource(Resource=state["arn"], TagKeys=removed)
        client.publish_version(FunctionName=name)

    def read(self, aws: Clients, state: State) -> State | None:
        client, name = aws("lambda"), state["function_name"]
        answer = client.get_function(FunctionName=name)
        found = answer["Configuration"]
        versions = client.get_paginator("list_versions_by_function").paginate(FunctionName=name)
        numbers = [int(one["Version"]) for page in versions for one in page["Versions"] if one["Version"] != "$LATEST"]
        version = str(max(numbers, default=0)) if numbers else "$LATEST"
        arn = found["FunctionArn"]
        vpc = found.get("VpcConfig") or {}
        variables = (found.get("Environment") or {}).get("Variables") or {}
        logging = found.get("LoggingConfig") or {}
        reserved = client.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        return {
            "id": name,
            "arn": arn,
            "function_name": name,
            "description": found.get("Description") or "",
            "role": found["Role"],
            "handler": found.get("Handler"),
            "runtime": found.get("Runtime"),
            "architectures": found.get("Architectures"),
            "memory_size": found["MemorySize"],
            "timeout": found["Timeout"],
            "package_type": found.get("PackageType", "Zip"),
            "kms_key_arn": found.get("KMSKeyArn") or None,
            "reserved_concurrent_executions": reserved,
            "version": version,
            "qualified_arn": f"{arn}:{version}",
            "invoke_arn": _invoke_arn(aws, arn),
            "qualified_invoke_arn": _invoke_arn(aws, f"{arn}:{version}"),
            "last_modified": found["LastModified"],
            "code_sha256": found["CodeSha256"],
            "source_code_size": found["CodeSize"],
            "signing_job_arn": "",
            "signing_profile_version_arn": "",
            "environment": [{"variables": variables}] if variables else [],
            "ephemeral_storage": [{"size": (found.get("EphemeralStorage") or {}).get("Size", 512)}],
            "logging_config": [{"log_format": logging.get("LogFormat", "Text"), "log_group": logging.get("LogGroup")}],
            "vpc_config": [
                {
                    "subnet_ids": vpc["SubnetIds"],
                    "security_group_ids": vpc["SecurityGroupIds"],
                    "ipv6_allowed_for_dual_stack": vpc.get("Ipv6AllowedForDualStack"),
                    "vpc_id": vpc.get("VpcId") or "",
                }
            ]
            if vpc.get("SubnetIds")
            else [],
            "tags_all": answer.get("Tags") or client.list_tags(Resource=arn).get("Tags") or {},
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("lambda").delete_function(FunctionName=state["function_name"])

    def _configuration(self, want: Given) -> dict[str, Any]:
        environment, vpc = want.block("environment"), want.block("vpc_config")
        storage, logging = want.block("ephemeral_storage"), want.block("logging_config")
        return {
            **want.pick("function_name", "role", "handler", "runtime", "memory_size", "timeout"),
            "Description": want["description"] or "",
            "KMSKeyArn": want["kms_key_arn"] or "",
            "Environment": {"Variables": environment["variables"] or {} if environment else {}},
            "VpcConfig": vpc.pick("subnet_ids", "security_group_ids") if vpc else {},
            **({"EphemeralStorage": storage.pick("size")} if storage else {}),
            **({"LoggingConfig": logging.pick("log_format", "log_group")} if logging else {}),
        }

    def _reserve(self, aws: Clients, want: Given) -> None:
        cap, name = want["reserved_concurrent_executions"], want["function_name"]
        if cap is None or cap < 0:
            aws("lambda").delete_function_concurrency(FunctionName=name)
        else:
            aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=cap)

    def _wait(self, aws: Clients, name: str) -> None:
        aws("lambda").get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})


class Alias(Resource):
    type = "aws_lambda_alias"
    replace = ("name", "function_name")

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("lambda").create_alias(
            **want.pick("function_name", "name", "function_version"), Description=want["description"] or ""
        )
        return {"arn": answer["AliasArn"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("lambda").update_alias(
            **want.pick("function_name", "name", "function_version"), Description=want["description"] or ""
        )

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("lambda").get_alias(FunctionName=state["function_name"], Name=state["name"])
        return {
            "id": found["AliasArn"],
            "arn": found["AliasArn"],
            "name": found["Name"],
            "function_name": state["function_name"],
            "function_version": found["FunctionVersion"],
            "description": found.get("Description") or "",
            "invoke_arn": _invoke_arn(aws, found["AliasArn"]),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("lambda").delete_alias(FunctionName=state["function_name"], Name=state["name"])


class EventSourceMapping(Resource):
    type = "aws_lambda_event_source_mapping"
    replace = ("event_source_arn",)
    defaults = {"enabled": True}
    volatile = ("last_modified", "state", "last_processing_result", "state_transition_reason")
    forgotten = ("tags_all",)

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("lambda").create_event_source_mapping(
            **want.pick("event_source_arn", "enabled"), **self._changeable(want), Tags=tags_given(want)
        )
        return {"uuid": answer["UUID"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client = aws("lambda")
        client.update_event_source_mapping(UUID=state["uuid"], **want.pick("enabled"), **self._changeable(want))
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(Resource=state["arn"], Tags=added)
        if removed:
            client.untag_resource(Resource=state["arn"], TagKeys=removed)

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("lambda").get_event_source_mapping(UUID=state["uuid"])
        if found.get("State") == "Deleting":
            return None
        cap = (found.get("ScalingConfig") or {}).get("MaximumConcurrency")
        arn = found["FunctionArn"]
        own = (
            found.get("EventSourceMappingArn")
            or f"arn:aws:lambda:{aws.region}:{aws.account}:event-source-mapping:{found['UUID']}"
        )
        return {
            "id": found["UUID"],
            "uuid": found["UUID"],
            "arn": own,
            "event_source_arn": found["EventSourceArn"],
            "function_name": arn,
            "function_arn": arn,
            "batch_size": found["BatchSize"],
            "enabled": found["State"] in ("Enabled", "Enabling", "Creating", "Updating"),
            "function_response_types": found.get("FunctionResponseTypes") or [],
            "scaling_config": [{"maximum_concurrency": cap}] if cap else [],
            "state": found["State"],
            "state_transition_reason": found.get("StateTransitionReason") or "",
            "last_processing_result": found.get("LastProcessingResult") or "",
            "last_modified": str(found.get("LastModified", "")),
            "maximum_record_age_in_seconds": 0,
            "maximum_retry_attempts": 0,
            "parallelization_factor": 0,
            "tags_all": _mapping_tags(aws, own),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("lambda").delete_event_source_mapping(UUID=state["uuid"])

    def _changeable(self, want: Given) -> dict[str, Any]:
        scaling = want.block("scaling_config")
        return {
            **want.pick("function_name", "batch_size", "function_response_types"),
            "ScalingConfig": scaling.pick("maximum_concurrency") if scaling else {},
        }


class Permission(Resource):
    type = "aws_lambda_permission"
    replace = ("action", "function_name", "principal", "qualifier", "source_account", "source_arn", "statement_id")

    def create(self, aws: Clients, want: Given) -> State:
        aws("lambda").add_permission(
            **want.pick("action", "function_name", "principal", "qualifier", "source_account", "statement_id"),
            **want.pick(source_arn="SourceArn"),
        )
        return {}

    def read(self, aws: Clients, state: State) -> State | None:
        where = {"FunctionName": state["function_name"]}
        if state.get("qualifier"):
            where["Qualifier"] = state["qualifier"]
        policy = json.loads(aws("lambda").get_policy(**where)["Policy"])
        found = next((one for one in policy["Statement"] if one["Sid"] == state["statement_id"]), None)
        if found is None:
            return None
        conditions: dict[str, Any] = {}
        for words in (found.get("Condition") or {}).values():
            conditions |= {key.lower(): value for key, value in words.items()}
        principal = found["Principal"]
        return {
            "id": found["Sid"],
            "statement_id": found["Sid"],
            "statement_id_prefix": "",
            "action": found["Action"],
            "function_name": state["function_name"],
            "qualifier": state.get("qualifier"),
            "principal": principal if isinstance(principal, str) else next(iter(principal.values())),
            "source_arn": conditions.get("aws:sourcearn"),
            "source_account": conditions.get("aws:sourceaccount"),
        }

    def delete(self, aws: Clients, state: State) -> None:
        where = {"Qualifier": state["qualifier"]} if state.get("qualifier") else {}
        aws("lambda").remove_permission(FunctionName=state["function_name"], StatementId=state["statement_id"], **where)


class EventInvokeConfig(Resource):
    type = "aws_lambda_function_event_invoke_config"
    replace = ("function_name", "qualifier")

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        destinations = {}
        block = want.block("destination_config")
        if block and (failure := block.block("on_failure")):
            destinations["OnFailure"] = failure.pick("destination")
        aws("lambda").put_function_event_invoke_config(
            **want.pick("function_name", "qualifier", "maximum_retry_attempts"),
            **want.pick(maximum_event_age_in_seconds="MaximumEventAgeInSeconds"),
            DestinationConfig=destinations,
        )

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("lambda").get_function_event_invoke_config(
            FunctionName=state["function_name"], Qualifier=state["qualifier"]
        )
        failure = ((found.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
        return {
            "id": f"{state['function_name']}:{state['qualifier']}",
            "function_name": state["function_name"],
            "qualifier": state["qualifier"],
            "maximum_retry_attempts": found.get("MaximumRetryAttempts"),
            "maximum_event_age_in_seconds": found.get("MaximumEventAgeInSeconds"),
            "destination_config": [{"on_failure": [{"destination": failure}], "on_success": []}] if failure else [],
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("lambda").delete_function_event_invoke_config(
            FunctionName=state["function_name"], Qualifier=state["qualifier"]
        )


class Invocation(Resource):
    type = "aws_lambda_invocation"
    replace = ("function_name", "input", "qualifier", "triggers")
    defaults = {"lifecycle_scope": "CREATE_ONLY", "terraform_key": "tf", "qualifier": "$LATEST"}
    # an invocation is over once it is done
    kept = ("function_name", "input", "qualifier", "triggers", "result")
    local = ("lifecycle_scope", "terraform_key", "triggers")

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("lambda").invoke(
            **want.pick("function_name", "qualifier"), InvocationType="RequestResponse", Payload=want["input"].encode()
        )
        body = answer["Payload"].read().decode()
        if answer.get("FunctionError"):
            raise LookupError(f"the function failed: {body}")
        return {"result": body}

    def read(self, aws: Clients, state: State) -> State | None:
        return {"id": f"{state['function_name']}_{state['qualifier']}", "result": state["result"]}

    def delete(self, aws: Clients, state: State) -> None:
        return None


def _invoke_arn(aws: Clients, arn: str) -> str:
    return f"arn:aws:apigateway:{aws.region}:lambda:path/2015-03-31/functions/{arn}/invocations"


def _mapping_tags(aws: Clients, arn: str) -> dict[str, str]:
    try:
        return aws("lambda").list_tags(Resource=arn).get("Tags") or {}
    except ClientError as error:
        # the emulator knows the tags of functions only
        if not is_gone(error):
            raise
        return {}
