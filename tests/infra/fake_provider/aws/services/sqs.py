"""SQS."""

from __future__ import annotations

from typing import Any

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, tag_changes, tags_given

_NUMBERS = {
    "visibility_timeout_seconds": "VisibilityTimeout",
    "message_retention_seconds": "MessageRetentionPeriod",
    "max_message_size": "MaximumMessageSize",
    "delay_seconds": "DelaySeconds",
    "receive_wait_time_seconds": "ReceiveMessageWaitTimeSeconds",
    "kms_data_key_reuse_period_seconds": "KmsDataKeyReusePeriodSeconds",
}


class Queue(Resource):
    type = "aws_sqs_queue"
    replace = ("name", "fifo_queue")
    defaults = {
        "visibility_timeout_seconds": 30,
        "message_retention_seconds": 345600,
        "delay_seconds": 0,
        "receive_wait_time_seconds": 0,
        "fifo_queue": False,
    }
    json = ("redrive_policy", "redrive_allow_policy", "policy")

    def create(self, aws: Clients, want: Given) -> State:
        answer = aws("sqs").create_queue(
            QueueName=want["name"], Attributes=self._attributes(want), tags=tags_given(want)
        )
        return {"url": answer["QueueUrl"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        client, url = aws("sqs"), state["url"]
        client.set_queue_attributes(QueueUrl=url, Attributes=self._attributes(want))
        added, removed = tag_changes(want, state)
        if added:
            client.tag_queue(QueueUrl=url, Tags=added)
        if removed:
            client.untag_queue(QueueUrl=url, TagKeys=removed)

    def read(self, aws: Clients, state: State) -> State | None:
        client, url = aws("sqs"), state["url"]
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return {
            "id": url,
            "url": url,
            "arn": found["QueueArn"],
            "name": found["QueueArn"].rpartition(":")[2],
            "name_prefix": "",
            **{name: int(found[key]) for name, key in _NUMBERS.items() if key in found},
            "kms_data_key_reuse_period_seconds": int(found.get("KmsDataKeyReusePeriodSeconds", 300)),
            "fifo_queue": found.get("FifoQueue") == "true",
            "sqs_managed_sse_enabled": found.get("SqsManagedSseEnabled", "false") == "true",
            "kms_master_key_id": found.get("KmsMasterKeyId"),
            "redrive_policy": found.get("RedrivePolicy", ""),
            "redrive_allow_policy": found.get("RedriveAllowPolicy", ""),
            "policy": found.get("Policy", ""),
            "deduplication_scope": "",
            "fifo_throughput_limit": "",
            "tags_all": client.list_queue_tags(QueueUrl=url).get("Tags") or {},
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("sqs").delete_queue(QueueUrl=state["url"])

    def _attributes(self, want: Given) -> dict[str, str]:
        attributes: dict[str, Any] = want.pick(
            redrive_policy="RedrivePolicy",
            kms_master_key_id="KmsMasterKeyId",
            sqs_managed_sse_enabled="SqsManagedSseEnabled",
            **_NUMBERS,
        )
        if want["fifo_queue"]:
            attributes["FifoQueue"] = True
        return {
            name: ("true" if value else "false") if isinstance(value, bool) else str(value)
            for name, value in attributes.items()
        }


class _QueueAttribute(Resource):
    """One attribute of a queue as a resource of its own."""

    attribute: str
    name: str
    replace = ("queue_url",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("sqs").set_queue_attributes(QueueUrl=want["queue_url"], Attributes={self.attribute: want[self.name]})

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("sqs").get_queue_attributes(QueueUrl=state["queue_url"], AttributeNames=["All"])["Attributes"]
        text = found.get(self.attribute)
        return {"id": state["queue_url"], "queue_url": state["queue_url"], self.name: text} if text else None

    def delete(self, aws: Clients, state: State) -> None:
        aws("sqs").set_queue_attributes(QueueUrl=state["queue_url"], Attributes={self.attribute: ""})


class QueuePolicy(_QueueAttribute):
    type = "aws_sqs_queue_policy"
    attribute, name = "Policy", "policy"
    json = ("policy",)


class RedriveAllowPolicy(_QueueAttribute):
    type = "aws_sqs_queue_redrive_allow_policy"
    attribute, name = "RedriveAllowPolicy", "redrive_allow_policy"
    json = ("redrive_allow_policy",)
