"""The root key `triggers`: events that start an execution of the playbook.

The templates of a trigger read `event` alone: {id, source, type, time, data}, with `headers` of what comes with some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag, WithJsonSchema

from .part import Name, Part

MAX_TRIGGERS = 50
KINDS: Final = ("webhook", "object", "message", "playbook")

# text that is one {{ expression }}, as `schema` describes it
Expression = Annotated[str, WithJsonSchema({"type": "string", "format": "expression"})]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
PLAYBOOK_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$"
NATS_PATTERN: Final = r"^[A-Za-z0-9_-]+$"
SUBJECT_PATTERN: Final = r"^[^\s.]+(\.[^\s.]+)*$"
SUBSCRIPTION_PATTERN: Final = r"^projects/[a-z0-9.:-]+/subscriptions/[A-Za-z0-9._~%+-]+$"
OBJECT_PATTERN: Final = r"^((s3|gs)://[^/{}\s]+(/[^{}]*)?|file:///[^{}]+)$"
PlaybookPath = Annotated[str, StringConstraints(pattern=PLAYBOOK_PATTERN, max_length=500)]
ObjectUrl = Annotated[str, StringConstraints(pattern=OBJECT_PATTERN, max_length=1000)]
NatsName = Annotated[str, StringConstraints(pattern=NATS_PATTERN, max_length=100)]
Subject = Annotated[str, StringConstraints(pattern=SUBJECT_PATTERN, max_length=255)]
Subscription = Annotated[str, StringConstraints(pattern=SUBSCRIPTION_PATTERN, max_length=500)]
Ended = Literal["completed", "failed", "cancelled"]


class TriggerPart(Part):
    name: Name = Field(description="Its name, which no other trigger of the playbook has; not events")
    enabled: bool = Field(
        True,
        description=(
            "false: it is disabled when the playbook is registered. One that was disabled by its name stays disabled, "
            "also in later versions"
        ),
    )
    when: bool | Expression | None = Field(
        None, description="Condition, which reads `event`: an event for which it does not hold starts nothing"
    )
    input: dict[str, Any] = Field(
        {},
        description=(
            "What is merged into the workload of the execution. Texts in it may be templates, which read `event`"
        ),
    )


class WebhookTrigger(TriggerPart):
    """A signed request, POST /hooks/PATH/NAME of the gateway."""

    kind: Literal["webhook"]
    auth: Text = Field(
        description=(
            "Name of the stored credential of type webhook_secret, whose field `secret` or `secrets` has what the "
            "sender signs with"
        )
    )
    scheme: Literal["standard", "github", "stripe"] = Field(
        "standard",
        description=(
            "How it is signed. standard: webhook-id, webhook-timestamp and webhook-signature of Standard Webhooks. "
            "github: X-Hub-Signature-256 and X-GitHub-Delivery, without a time. stripe: Stripe-Signature, and the id "
            "in the body. A time that differs by more than five minutes is refused"
        ),
    )


class ObjectTrigger(TriggerPart):
    """An object that is written to a bucket, or a file to a folder."""

    kind: Literal["object"]
    url: ObjectUrl = Field(
        description=(
            "The bucket, with what the names of its objects begin with: s3://BUCKET/PREFIX or gs://BUCKET/PREFIX. On "
            "one machine also a folder: file:///PATH/"
        )
    )
    suffix: Annotated[str, StringConstraints(max_length=200)] = Field(
        "", description="What the names of its objects end with"
    )


class MessageTrigger(TriggerPart):
    """A message of NATS JetStream, of a queue of AWS, or of a topic of Google."""

    kind: Literal["message"]
    source: Literal["nats", "sqs", "pubsub"] = Field(
        description="nats: JetStream. sqs: a queue of AWS. pubsub: a subscription to a topic of Google"
    )
    stream: NatsName | None = Field(None, description="For nats: name of the stream, which has to be there. Required")
    subject: Subject | None = Field(
        None, description="For nats: only messages of this subject; * and > as in NATS. Default: all of the stream"
    )
    queue: Text | None = Field(None, description="For sqs: name or URL of the queue. Required")
    subscription: Subscription | None = Field(
        None, description="For pubsub: projects/PROJECT/subscriptions/NAME, one that is pulled. Required"
    )
    id: Expression | None = Field(
        None,
        description=(
            "Expression over `event` that gives the id of the event: of several messages of one id, the first one "
            "counts. Default: the id of the message"
        ),
    )


class PlaybookTrigger(TriggerPart):
    """The end of an execution of another playbook, of any version."""

    kind: Literal["playbook"]
    path: PlaybookPath = Field(description="Path of the other playbook in the catalog")
    statuses: Annotated[list[Ended], Field(min_length=1)] = Field(["completed"], description="How it has to have ended")


def kind_of(value: Any) -> Any:
    return value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)


AnyTrigger: TypeAlias = Annotated[
    Annotated[WebhookTrigger, Tag("webhook")]
    | Annotated[ObjectTrigger, Tag("object")]
    | Annotated[MessageTrigger, Tag("message")]
    | Annotated[PlaybookTrigger, Tag("playbook")],
    Discriminator(kind_of),
]
