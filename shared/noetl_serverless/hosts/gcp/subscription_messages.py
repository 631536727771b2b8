"""Messages of a pull subscription of Pub/Sub that a trigger listens to."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from ...bus.event_data import event_data
from ...errors import NotFound
from ...reconciler.triggers import SourceEvent, SourceEvents
from ...store.triggers import PolledTrigger
from .api import Api, GoogleError

# how long a message is not delivered again, in seconds: longer than it takes to record a batch. A subscription's own
# deadline is 10 s unless its owner has chosen another
LEASE_SECONDS = 60


class SubscriptionSource:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, trigger: PolledTrigger, limit: int) -> SourceEvents:
        name = str(trigger.config["subscription"])
        # not to wait for the first one: the next pass comes soon, and meanwhile others are read
        body = {"maxMessages": limit, "returnImmediately": True}
        try:
            answer = await self._api.json("pubsub", "POST", f"/v1/{name}:pull", body)
            found: list[dict[str, Any]] = answer.get("receivedMessages") or []
            if found:
                await self._lease(name, [received["ackId"] for received in found])
        except GoogleError as error:
            raise NotFound(f"the subscription {name} cannot be read: {error}") from error
        events = [
            SourceEvent(
                event=_event(trigger.source, received["message"]),
                acknowledge=partial(self._acknowledge, name, received["ackId"]),
            )
            for received in found
        ]
        # Pub/Sub may give fewer than it has
        return SourceEvents(events=events, more=bool(found))

    async def _lease(self, name: str, ack_ids: list[str]) -> None:
        body = {"ackIds": ack_ids, "ackDeadlineSeconds": LEASE_SECONDS}
        await self._api.json("pubsub", "POST", f"/v1/{name}:modifyAckDeadline", body)

    async def _acknowledge(self, name: str, ack_id: str) -> None:
        await self._api.json("pubsub", "POST", f"/v1/{name}:acknowledge", {"ackIds": [ack_id]})


def _event(source: str, message: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(message["messageId"]),
        "source": source,
        "type": "message",
        "time": str(message.get("publishTime", "")),
        "headers": message.get("attributes") or {},
        **event_data(base64.b64decode(message.get("data") or "")),
    }
