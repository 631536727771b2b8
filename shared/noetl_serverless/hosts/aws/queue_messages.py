"""Messages of a queue of SQS that a trigger listens to."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from ...bus.event_data import event_data
from ...errors import NotFound
from ...reconciler.triggers import SourceEvent, SourceEvents
from ...store.triggers import PolledTrigger
from .api import Api, AwsError

# of one call
MAX_MESSAGES = 10
# how long a message is not delivered again, in seconds: longer than it takes to record it
VISIBILITY_SECONDS = 60


class QueueSource:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._urls: dict[str, str] = {}

    async def read(self, trigger: PolledTrigger, limit: int) -> SourceEvents:
        name = str(trigger.config["queue"])
        try:
            url = await self._url(name)
            found: list[dict[str, Any]] = []
            while len(found) < limit:
                batch = await self._receive(url, min(MAX_MESSAGES, limit - len(found)))
                found += batch
                # SQS may give fewer than it has
                if not batch:
                    break
        except AwsError as error:
            raise NotFound(f"the queue {name} cannot be read: {error}") from error
        events = [
            SourceEvent(
                event=_event(trigger.source, message),
                acknowledge=partial(self._delete, url, message["ReceiptHandle"]),
            )
            for message in found
        ]
        return SourceEvents(events=events, more=len(found) >= limit)

    async def _url(self, name: str) -> str:
        if name.startswith(("https://", "http://")):
            return name
        if name not in self._urls:
            answer = await self._api.json("sqs", "AmazonSQS.GetQueueUrl", {"QueueName": name}, "1.0")
            self._urls[name] = str(answer["QueueUrl"])
        return self._urls[name]

    async def _receive(self, url: str, limit: int) -> list[dict[str, Any]]:
        body = {
            "QueueUrl": url,
            "MaxNumberOfMessages": limit,
            "VisibilityTimeout": VISIBILITY_SECONDS,
            "WaitTimeSeconds": 0,
            "AttributeNames": ["SentTimestamp", "MessageDeduplicationId"],
            "MessageAttributeNames": ["All"],
        }
        answer = await self._api.json("sqs", "AmazonSQS.ReceiveMessage", body, "1.0")
        messages: list[dict[str, Any]] = answer.get("Messages") or []
        return messages

    async def _delete(self, url: str, receipt: str) -> None:
        await self._api.json("sqs", "AmazonSQS.DeleteMessage", {"QueueUrl": url, "ReceiptHandle": receipt}, "1.0")


def _event(source: str, message: dict[str, Any]) -> dict[str, Any]:
    attributes = message.get("Attributes") or {}
    sent = int(attributes.get("SentTimestamp", 0)) / 1000
    named = message.get("MessageAttributes") or {}
    return {
        "id": str(message["MessageId"]),
        "source": source,
        "type": "message",
        "time": datetime.fromtimestamp(sent, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "headers": {name: value["StringValue"] for name, value in named.items() if "StringValue" in value},
        **event_data(str(message.get("Body", "")).encode()),
    }
