"""CloudWatch, SNS and budgets."""

from __future__ import annotations

from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, as_pairs, tag_changes, tags_given, tags_of


class Alarm(Resource):
    type = "aws_cloudwatch_metric_alarm"
    replace = ("alarm_name",)
    defaults = {"actions_enabled": True, "treat_missing_data": "missing"}
    _words = (
        "alarm_name",
        "alarm_description",
        "actions_enabled",
        "alarm_actions",
        "namespace",
        "metric_name",
        "statistic",
        "period",
        "evaluation_periods",
        "datapoints_to_alarm",
        "comparison_operator",
        "threshold",
        "treat_missing_data",
    )

    def create(self, aws: Clients, want: Given) -> State:
        aws("cloudwatch").put_metric_alarm(**self._parameters(want), Tags=as_pairs(tags_given(want)))
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client = aws("cloudwatch")
        client.put_metric_alarm(**self._parameters(want))
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(ResourceARN=state["arn"], Tags=as_pairs(added))
        if removed:
            client.untag_resource(ResourceARN=state["arn"], TagKeys=removed)

    def _parameters(self, want: Given) -> dict[str, Any]:
        return {
            **want.pick(*self._words, ok_actions="OKActions"),
            "Dimensions": as_pairs(want["dimensions"], "Name", "Value"),
        }

    def read(self, aws: Clients, state: State) -> State | None:
        client = aws("cloudwatch")
        answer = client.describe_alarms(AlarmNames=[state["alarm_name"]])["MetricAlarms"]
        if not answer:
            return None
        found = answer[0]
        return {
            "id": found["AlarmName"],
            "arn": found["AlarmArn"],
            "alarm_name": found["AlarmName"],
            "alarm_description": found.get("AlarmDescription"),
            "actions_enabled": found["ActionsEnabled"],
            "alarm_actions": found.get("AlarmActions") or [],
            "ok_actions": found.get("OKActions") or [],
            "namespace": found["Namespace"],
            "metric_name": found["MetricName"],
            "dimensions": tags_of(found.get("Dimensions"), "Name", "Value"),
            "statistic": found.get("Statistic"),
            "period": found["Period"],
            "evaluation_periods": found["EvaluationPeriods"],
            "datapoints_to_alarm": found.get("DatapointsToAlarm"),
            "comparison_operator": found["ComparisonOperator"],
            "threshold": found["Threshold"],
            "treat_missing_data": found.get("TreatMissingData", "missing"),
            "evaluate_low_sample_count_percentiles": "",
            "tags_all": tags_of(client.list_tags_for_resource(ResourceARN=found["AlarmArn"]).get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("cloudwatch").delete_alarms(AlarmNames=[state["alarm_name"]])


class Dashboard(Resource):
    type = "aws_cloudwatch_dashboard"
    replace = ("dashboard_name",)
    json = ("dashboard_body",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("cloudwatch").put_dashboard(**want.pick("dashboard_name", "dashboard_body"))

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("cloudwatch").get_dashboard(DashboardName=state["dashboard_name"])
        return {
            "id": found["DashboardName"],
            "dashboard_arn": found["DashboardArn"],
            "dashboard_name": found["DashboardName"],
            "dashboard_body": found["DashboardBody"],
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("cloudwatch").delete_dashboards(DashboardNames=[state["dashboard_name"]])


class Topic(Resource):
    type = "aws_sns_topic"
    replace = ("name", "fifo_topic")
    defaults = {"fifo_topic": False, "content_based_deduplication": False}
    json = ("policy",)
    local = ("content_based_deduplication",)

    def create(self, aws: Clients, want: Given) -> State:
        want.forgo("fifo_topic")
        answer = aws("sns").create_topic(
            Name=want["name"],
            Attributes=want.pick(kms_master_key_id="KmsMasterKeyId"),
            Tags=as_pairs(tags_given(want)),
        )
        return {"arn": answer["TopicArn"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client, arn = aws("sns"), state["arn"]
        client.set_topic_attributes(
            TopicArn=arn, AttributeName="KmsMasterKeyId", AttributeValue=want["kms_master_key_id"] or ""
        )
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(ResourceArn=arn, Tags=as_pairs(added))
        if removed:
            client.untag_resource(ResourceArn=arn, TagKeys=removed)

    def read(self, aws: Clients, state: State) -> State | None:
        client, arn = aws("sns"), state["arn"]
        found = client.get_topic_attributes(TopicArn=arn)["Attributes"]
        return {
            "id": arn,
            "arn": arn,
            "name": arn.rpartition(":")[2],
            "name_prefix": "",
            "fifo_topic": False,
            "kms_master_key_id": found.get("KmsMasterKeyId") or None,
            "policy": found.get("Policy", ""),
            "owner": found.get("Owner", ""),
            "beginning_archive_time": "",
            "fifo_throughput_scope": "",
            "signature_version": 0,
            "tracing_config": "",
            "tags_all": tags_of(client.list_tags_for_resource(ResourceArn=arn).get("Tags")),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("sns").delete_topic(TopicArn=state["arn"])


class TopicPolicy(Resource):
    type = "aws_sns_topic_policy"
    replace = ("arn",)
    json = ("policy",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("sns").set_topic_attributes(TopicArn=want["arn"], AttributeName="Policy", AttributeValue=want["policy"])

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("sns").get_topic_attributes(TopicArn=state["arn"])["Attributes"]
        return {
            "id": state["arn"],
            "arn": state["arn"],
            "owner": found.get("Owner", ""),
            "policy": found.get("Policy", ""),
        }

    def delete(self, aws: Clients, state: State) -> None:
        """A topic always has a policy; it goes with the topic."""


class Subscription(Resource):
    type = "aws_sns_topic_subscription"
    replace = ("topic_arn", "protocol", "endpoint")
    defaults = {
        "confirmation_timeout_in_minutes": 1,
        "endpoint_auto_confirms": False,
        "raw_message_delivery": False,
    }
    local = ("confirmation_timeout_in_minutes", "endpoint_auto_confirms", "raw_message_delivery")

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("sns").subscribe(**want.pick("topic_arn", "protocol", "endpoint"), ReturnSubscriptionArn=True)
        return {"arn": answer["SubscriptionArn"]}

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("sns").get_subscription_attributes(SubscriptionArn=state["arn"])["Attributes"]
        return {
            "id": state["arn"],
            "arn": state["arn"],
            "topic_arn": found["TopicArn"],
            "protocol": found["Protocol"],
            "endpoint": found["Endpoint"],
            "owner_id": found.get("Owner", ""),
            "pending_confirmation": found.get("PendingConfirmation") == "true",
            "confirmation_was_authenticated": found.get("ConfirmationWasAuthenticated") == "true",
            "filter_policy_scope": "",
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("sns").unsubscribe(SubscriptionArn=state["arn"])


class Budget(Resource):
    type = "aws_budgets_budget"
    replace = ("name",)

    def create(self, aws: Clients, want: Given) -> State:
        aws("budgets").create_budget(
            AccountId=aws.account,
            Budget=self._budget(want),
            NotificationsWithSubscribers=self._notifications(want),
            ResourceTags=as_pairs(tags_given(want)),
        )
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client, name = aws("budgets"), state["name"]
        client.update_budget(AccountId=aws.account, NewBudget=self._budget(want))
        before = client.describe_notifications_for_budget(AccountId=aws.account, BudgetName=name)
        for old in before.get("Notifications") or ():
            client.delete_notification(AccountId=aws.account, BudgetName=name, Notification=old)
        for new in self._notifications(want):
            client.create_notification(AccountId=aws.account, BudgetName=name, **new)
        added, removed = tag_changes(want, state)
        if added:
            client.tag_resource(ResourceARN=state["arn"], ResourceTags=as_pairs(added))
        if removed:
            client.untag_resource(ResourceARN=state["arn"], ResourceTagKeys=removed)

    def _budget(self, want: Given) -> dict[str, Any]:
        return {
            **want.pick("budget_type", "time_unit", name="BudgetName"),
            "BudgetLimit": {"Amount": want["limit_amount"], "Unit": want["limit_unit"]},
        }

    def _notifications(self, want: Given) -> list[dict[str, Any]]:
        return [
            {
                "Notification": one.pick("notification_type", "comparison_operator", "threshold", "threshold_type"),
                "Subscribers": [
                    {"SubscriptionType": "EMAIL", "Address": address}
                    for address in one["subscriber_email_addresses"] or ()
                ],
            }
            for one in want.blocks("notification")
        ]

    def read(self, aws: Clients, state: State) -> State | None:
        client, name = aws("budgets"), state["name"]
        found = client.describe_budget(AccountId=aws.account, BudgetName=name)["Budget"]
        arn = f"arn:aws:budgets::{aws.account}:budget/{name}"
        rules = client.describe_notifications_for_budget(AccountId=aws.account, BudgetName=name)
        return {
            "id": f"{aws.account}:{name}",
            "account_id": aws.account,
            "arn": arn,
            "name": name,
            "name_prefix": "",
            "budget_type": found["BudgetType"],
            "limit_amount": _amount(found["BudgetLimit"]["Amount"]),
            "limit_unit": found["BudgetLimit"]["Unit"],
            "time_unit": found["TimeUnit"],
            "time_period_start": "",
            "notification": [self._rule(aws, name, rule) for rule in rules.get("Notifications") or ()],
            "tags_all": tags_of(client.list_tags_for_resource(ResourceARN=arn).get("ResourceTags")),
        }

    def _rule(self, aws: Clients, name: str, rule: dict[str, Any]) -> dict[str, Any]:
        who = aws("budgets").describe_subscribers_for_notification(
            AccountId=aws.account, BudgetName=name, Notification=rule
        )
        return {
            "comparison_operator": rule["ComparisonOperator"],
            "notification_type": rule["NotificationType"],
            "threshold": rule["Threshold"],
            "threshold_type": rule["ThresholdType"],
            "subscriber_email_addresses": [one["Address"] for one in who.get("Subscribers") or ()],
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("budgets").delete_budget(AccountId=aws.account, BudgetName=state["name"])


def _amount(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
