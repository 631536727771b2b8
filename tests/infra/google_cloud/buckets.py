"""Buckets: their metadata, their policies, and who is notified of their objects."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from google.iam.v1 import policy_pb2

from . import bucket_metadata
from .errors import AlreadyExists, ConditionNotMet, InvalidArgument, NotFound, Unimplemented
from .messages import now, render
from .object_store import ObjectStore
from .policies import EVERYBODY, Kind, Policies, parse_policy
from .project import Project
from .pubsub import PubSub
from .routes import Answer, Call, Route

SERVICE = "storage"
KIND = Kind("storage.buckets", ("storage",), has_conditions=True)

# what happens to objects; without a choice, a notification tells of all
_EVENTS = ("OBJECT_FINALIZE", "OBJECT_METADATA_UPDATE", "OBJECT_DELETE", "OBJECT_ARCHIVE")
_PAYLOADS = ("JSON_API_V1", "NONE")
_TOPIC = "//pubsub.googleapis.com/"
_NOTIFICATION = {"topic", "event_types", "object_name_prefix", "payload_format", "custom_attributes"}
_NOTIFICATION_OUTPUT = {"id", "kind", "selfLink", "etag"}
# IAM's JSON in Cloud Storage has these beside a policy's own
_POLICY_OUTPUT = {"kind", "resourceId"}


def resource_of(bucket: str) -> str:
    """As IAM names it."""
    return f"projects/_/buckets/{bucket}"


class Buckets:
    def __init__(self, project: Project, policies: Policies, pubsub: PubSub, store: ObjectStore, url: str) -> None:
        """`url`: where clients reach this."""
        self._project = project
        self._policies = policies
        self._pubsub = pubsub
        self._store = store
        self._url = url
        self._buckets: dict[str, dict[str, Any]] = {}
        self._notifications: dict[str, dict[str, dict[str, Any]]] = {}
        self._ids = itertools.count(1)

    def names(self) -> list[str]:
        return list(self._buckets)

    def notification_names(self) -> list[str]:
        return [
            f"{resource_of(bucket)}/notificationConfigs/{id}"
            for bucket, ids in self._notifications.items()
            for id in ids
        ]

    @property
    def agent(self) -> str:
        """The account by which Cloud Storage publishes."""
        return self._project.service_agent("gs-project-accounts")

    def routes(self) -> Iterable[Route]:
        buckets, bucket = "/storage/v1/b", "/storage/v1/b/{bucket}"
        notifications = f"{bucket}/notificationConfigs"
        conditions = ["ifMetagenerationMatch", "ifMetagenerationNotMatch"]
        yield Route(SERVICE, "buckets.insert", "POST", buckets, self.insert, ["project", "projection"])
        yield Route(
            SERVICE,
            "buckets.list",
            "GET",
            buckets,
            self.list,
            ["project", "projection", "prefix", "maxResults", "fields"],
        )
        yield Route(SERVICE, "buckets.get", "GET", bucket, self.get, ["projection", "fields", *conditions])
        yield Route(SERVICE, "buckets.patch", "PATCH", bucket, self.patch, ["projection", *conditions])
        yield Route(SERVICE, "buckets.update", "PUT", bucket, self.update, ["projection", *conditions])
        yield Route(SERVICE, "buckets.delete", "DELETE", bucket, self.delete, conditions)
        yield Route(
            SERVICE, "buckets.getIamPolicy", "GET", f"{bucket}/iam", self.get_policy, ["optionsRequestedPolicyVersion"]
        )
        yield Route(SERVICE, "buckets.setIamPolicy", "PUT", f"{bucket}/iam", self.set_policy)
        yield Route(SERVICE, "notifications.insert", "POST", notifications, self.insert_notification)
        yield Route(SERVICE, "notifications.list", "GET", notifications, self.list_notifications)
        yield Route(SERVICE, "notifications.get", "GET", f"{notifications}/{{id}}", self.get_notification)
        yield Route(SERVICE, "notifications.delete", "DELETE", f"{notifications}/{{id}}", self.delete_notification)
        yield Route(
            SERVICE,
            "projects.serviceAccount.get",
            "GET",
            "/storage/v1/projects/{project}/serviceAccount",
            self.get_agent,
        )

    # -- buckets

    async def insert(self, call: Call) -> Answer:
        self._policies.check(call.caller, "storage.buckets.create", self._project.name)
        self._project.by_id(f"projects/{call.query.get('project', '')}")
        given = bucket_metadata.checked(await call.document())
        bucket = bucket_metadata.created(self._project, given, self._url)
        name = bucket["name"]
        if name in self._buckets:
            raise AlreadyExists("Your previous request to create the named bucket succeeded and you already own it.")
        await self._store.create_bucket(name, bool(bucket.get("versioning", {}).get("enabled")))
        self._buckets[name] = bucket
        self._policies.set(resource_of(name), KIND, _legacy_policy(self._project))
        return bucket

    async def list(self, call: Call) -> Answer:
        self._policies.check(call.caller, "storage.buckets.list", self._project.name)
        prefix = call.query.get("prefix", "")
        found = [self._buckets[name] for name in sorted(self._buckets) if name.startswith(prefix)]
        return {"kind": "storage#buckets", "items": found}

    async def get(self, call: Call) -> Answer:
        return self._checked(call, "get")

    async def patch(self, call: Call) -> Answer:
        return await self._change(call, replace=False)

    async def update(self, call: Call) -> Answer:
        return await self._change(call, replace=True)

    async def delete(self, call: Call) -> Answer:
        name = self._checked(call, "delete")["name"]
        await self._store.delete_bucket(name)
        del self._buckets[name]
        self._notifications.pop(name, None)
        self._policies.drop(resource_of(name))
        return {}

    async def get_agent(self, call: Call) -> Answer:
        self._policies.check(call.caller, "resourcemanager.projects.get", self._project.name)
        self._project.by_id(f"projects/{call.path['project']}")
        return {"kind": "storage#serviceAccount", "email_address": self.agent}

    async def _change(self, call: Call, *, replace: bool) -> Answer:
        bucket = self._checked(call, "update")
        given = bucket_metadata.checked(await call.document())
        for name in ("name", "location"):
            if name in given and given[name].upper() != bucket[name].upper():
                raise InvalidArgument(f"The {name} of a bucket cannot be changed.")
            given.pop(name, None)
        changed = bucket_metadata.replaced(bucket, given) if replace else bucket_metadata.patched(bucket, given)
        if changed.get("versioning") != bucket.get("versioning"):
            raise Unimplemented("The stand-in's objects have versions from the start, or never.")
        self._buckets[bucket["name"]] = changed
        return changed

    # -- policies

    async def get_policy(self, call: Call) -> Answer:
        name = self._checked(call, "getIamPolicy")["name"]
        version = int(call.query.get("optionsRequestedPolicyVersion") or 1)
        return _policy_document(name, render(self._policies.get(resource_of(name), version)))

    async def set_policy(self, call: Call) -> Answer:
        bucket = self._checked(call, "setIamPolicy")
        document = await call.document()
        policy = parse_policy({name: value for name, value in document.items() if name not in _POLICY_OUTPUT})
        members = {member for binding in policy.bindings for member in binding.members}
        if bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced" and EVERYBODY in members:
            raise ConditionNotMet(
                "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access prevention "
                "is enforced."
            )
        return _policy_document(bucket["name"], render(self._policies.set(resource_of(bucket["name"]), KIND, policy)))

    # -- notifications

    async def insert_notification(self, call: Call) -> Answer:
        bucket = self._checked(call, "update")["name"]
        given = {name: value for name, value in (await call.document()).items() if name not in _NOTIFICATION_OUTPUT}
        if unknown := given.keys() - _NOTIFICATION:
            raise InvalidArgument(f"Invalid JSON payload received. Unknown name {sorted(unknown)[0]!r}.")
        if not set(given.get("event_types") or ()) <= set(_EVENTS):
            raise InvalidArgument(f"event_types must be of {', '.join(_EVENTS)}.")
        if given.get("payload_format") not in _PAYLOADS:
            raise InvalidArgument(f"payload_format must be one of {', '.join(_PAYLOADS)}.")
        topic = self._topic(given)
        if not self._policies.allows(self.agent, "pubsub.topics.publish", topic):
            raise InvalidArgument(
                f"The service account '{self.agent}' does not have permission to publish messages to the Cloud Pub/Sub "
                f"topic '{given['topic']}', or that topic does not exist."
            )
        id = str(next(self._ids))
        notification = {
            **given,
            "topic": f"{_TOPIC}{topic}",
            "kind": "storage#notification",
            "id": id,
            "etag": id,
            "selfLink": f"{self._url}/storage/v1/b/{bucket}/notificationConfigs/{id}",
        }
        self._notifications.setdefault(bucket, {})[id] = notification
        return notification

    async def list_notifications(self, call: Call) -> Answer:
        found = self._notifications.get(self._checked(call, "get")["name"], {})
        return {"kind": "storage#notifications", "items": list(found.values())}

    async def get_notification(self, call: Call) -> Answer:
        return self._notification(call, "get")

    async def delete_notification(self, call: Call) -> Answer:
        notification = self._notification(call, "update")
        del self._notifications[call.path["bucket"]][notification["id"]]
        return {}

    def notify(self, event: str, object: Mapping[str, Any], **more: str) -> None:
        """`more`: attributes that the event alone has."""
        bucket, name = object["bucket"], object["name"]
        for id, notification in self._notifications.get(bucket, {}).items():
            if not name.startswith(notification.get("object_name_prefix", "")):
                continue
            if event not in (notification.get("event_types") or _EVENTS):
                continue
            attributes = {
                **notification.get("custom_attributes", {}),
                "notificationConfig": f"{resource_of(bucket)}/notificationConfigs/{id}",
                "eventType": event,
                "payloadFormat": notification["payload_format"],
                "bucketId": bucket,
                "objectId": name,
                "objectGeneration": str(object["generation"]),
                "eventTime": now().isoformat().replace("+00:00", "Z"),
                **more,
            }
            data = json.dumps(object).encode() if notification["payload_format"] == "JSON_API_V1" else b""
            self._pubsub.publish_as(self.agent, notification["topic"].removeprefix(_TOPIC), data, attributes)

    # --

    def metadata(self, name: str) -> dict[str, Any]:
        bucket = self._buckets.get(name)
        if bucket is None:
            raise NotFound("The specified bucket does not exist.")
        return bucket

    def _checked(self, call: Call, permission: str) -> dict[str, Any]:
        name = call.path["bucket"]
        self._policies.check(call.caller, f"storage.buckets.{permission}", resource_of(name))
        bucket = self.metadata(name)
        wanted = call.query.get("ifMetagenerationMatch")
        unwanted = call.query.get("ifMetagenerationNotMatch")
        if wanted not in (None, bucket["metageneration"]) or unwanted == bucket["metageneration"]:
            raise ConditionNotMet("At least one of the pre-conditions you specified did not hold.")
        return bucket

    def _topic(self, given: Mapping[str, Any]) -> str:
        topic = str(given.get("topic", ""))
        if not topic.startswith(_TOPIC):
            raise InvalidArgument(f"The topic must begin with {_TOPIC}.")
        return self._project.by_id(topic.removeprefix(_TOPIC))

    def _notification(self, call: Call, permission: str) -> dict[str, Any]:
        bucket = self._checked(call, permission)["name"]
        notification = self._notifications.get(bucket, {}).get(call.path["id"])
        if notification is None:
            raise NotFound(f"The specified notification {call.path['id']} does not exist.")
        return notification


def _legacy_policy(project: Project) -> Any:
    """What a new bucket has from Google."""
    owners = [f"projectEditor:{project.id}", f"projectOwner:{project.id}"]
    viewers = [f"projectViewer:{project.id}"]
    bindings = [
        policy_pb2.Binding(role=f"roles/storage.legacy{role}", members=members)
        for role, members in (
            ("BucketOwner", owners),
            ("BucketReader", viewers),
            ("ObjectOwner", owners),
            ("ObjectReader", viewers),
        )
    ]
    return policy_pb2.Policy(bindings=bindings)


def _policy_document(bucket: str, policy: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "storage#policy", "resourceId": resource_of(bucket), **policy}
