"""The secret that senders of webhooks sign with."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from noetl_serverless.store.credentials import Credential

KEY = b"of the shop, for all of its senders"
NAME = "shop"
CREATED = datetime(2025, 1, 1, tzinfo=UTC)


class WebhookSecrets:
    """`Credentials`, as far as it is asked."""

    async def get(self, name: str, *, with_data: bool) -> Credential:
        assert name == NAME and with_data
        secret = "whsec_" + base64.b64encode(KEY).decode()
        return Credential(1, NAME, "webhook_secret", {}, [], None, CREATED, CREATED, {"secret": secret})
