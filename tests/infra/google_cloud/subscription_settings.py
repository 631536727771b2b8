"""What a subscription of Pub/Sub may be told, and what Google takes where nothing is said."""

from __future__ import annotations

from urllib.parse import urlsplit

from google.pubsub_v1 import types

from .errors import InvalidArgument
from .messages import Form, Message, has, seconds, set_seconds

FORM = Form(
    types.Subscription,
    "name topic push_config.push_endpoint push_config.oidc_token push_config.pubsub_wrapper ack_deadline_seconds "
    "message_retention_duration labels expiration_policy retry_policy",
    "state detached topic_message_retention_duration",
)
MAX_ACK_DEADLINE = 600
_MIN_ACK_DEADLINE = 10
# seconds
_ACK_DEADLINE, _RETENTION, _EXPIRATION = 10, 7 * 86400.0, 31 * 86400.0
_BACKOFF = {"minimum_backoff": 10.0, "maximum_backoff": 600.0}


def settle(message: Message) -> None:
    """Check what is given, and add what is not. InvalidArgument. Without a push endpoint it is pulled."""
    config = message.push_config
    if config.ByteSize() and urlsplit(config.push_endpoint).scheme not in ("http", "https"):
        raise InvalidArgument(f"Invalid push endpoint given (endpoint={config.push_endpoint}).")
    message.ack_deadline_seconds = message.ack_deadline_seconds or _ACK_DEADLINE
    if not _MIN_ACK_DEADLINE <= message.ack_deadline_seconds <= MAX_ACK_DEADLINE:
        raise InvalidArgument("Invalid ack deadline given: must be between 10 and 600 seconds.")
    if not has(message, "message_retention_duration"):
        set_seconds(message.message_retention_duration, _RETENTION)
    if not 600 <= seconds(message.message_retention_duration) <= 31 * 86400:
        raise InvalidArgument("The message retention duration must be between 10 minutes and 31 days.")
    if not has(message, "expiration_policy"):
        set_seconds(message.expiration_policy.ttl, _EXPIRATION)
    if has(message, "retry_policy"):
        for name, default in _BACKOFF.items():
            if not has(message.retry_policy, name):
                set_seconds(getattr(message.retry_policy, name), default)
    message.state = types.Subscription.State.ACTIVE
