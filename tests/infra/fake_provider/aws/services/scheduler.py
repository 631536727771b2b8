"""EventBridge Scheduler."""

from __future__ import annotations

from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State


class Schedule(Resource):
    type = "aws_scheduler_schedule"
    replace = ("name", "group_name")
    defaults = {"group_name": "default", "schedule_expression_timezone": "UTC", "state": "ENABLED"}

    def create(self, aws: Clients, want: Given) -> State:
        aws("scheduler").create_schedule(**self._parameters(want))
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("scheduler").update_schedule(**self._parameters(want))

    def _parameters(self, want: Given) -> dict[str, Any]:
        window, target = want.block("flexible_time_window"), want.block("target")
        assert window is not None and target is not None
        retry, dead = target.block("retry_policy"), target.block("dead_letter_config")
        return {
            **want.pick("name", "group_name", "description", "schedule_expression", "kms_key_arn", "state"),
            **want.pick("schedule_expression_timezone"),
            "FlexibleTimeWindow": window.pick("mode", "maximum_window_in_minutes"),
            "Target": {
                **target.pick("arn", "role_arn", "input"),
                **({"DeadLetterConfig": dead.pick("arn")} if dead else {}),
                **(
                    {
                        "RetryPolicy": retry.pick(
                            maximum_event_age_in_seconds="MaximumEventAgeInSeconds",
                            maximum_retry_attempts="MaximumRetryAttempts",
                        )
                    }
                    if retry
                    else {}
                ),
            },
        }

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("scheduler").get_schedule(Name=state["name"], GroupName=state["group_name"])
        target, window = found["Target"], found["FlexibleTimeWindow"]
        retry, dead = target.get("RetryPolicy") or {}, target.get("DeadLetterConfig") or {}
        return {
            "id": f"{found['GroupName']}/{found['Name']}",
            "arn": found["Arn"],
            "name": found["Name"],
            "name_prefix": "",
            "group_name": found["GroupName"],
            "description": found.get("Description") or "",
            "schedule_expression": found["ScheduleExpression"],
            "schedule_expression_timezone": found.get("ScheduleExpressionTimezone", "UTC"),
            "kms_key_arn": found.get("KmsKeyArn"),
            "state": found["State"],
            "action_after_completion": found.get("ActionAfterCompletion") or "",
            "flexible_time_window": [
                {"mode": window["Mode"], "maximum_window_in_minutes": window.get("MaximumWindowInMinutes")}
            ],
            "target": [
                {
                    "arn": target["Arn"],
                    "role_arn": target["RoleArn"],
                    "input": target.get("Input"),
                    "dead_letter_config": [{"arn": dead["Arn"]}] if dead else [],
                    "retry_policy": [
                        {
                            "maximum_event_age_in_seconds": retry.get("MaximumEventAgeInSeconds"),
                            "maximum_retry_attempts": retry.get("MaximumRetryAttempts"),
                        }
                    ]
                    if retry
                    else [],
                }
            ],
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("scheduler").delete_schedule(Name=state["name"], GroupName=state["group_name"])
