from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote

import pytest
from google.api_core import exceptions
from google.cloud.storage import Client
from google.pubsub_v1 import PublisherClient, SubscriberClient
from tests.infra.google_cloud.recorder import Recorder
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin, call

UNIFORM = {"uniformBucketLevelAccess": {"enabled": True}}


def storage_client(standin: Standin, email: str | None = None) -> Client:
    return Client(project=PROJECT, credentials=standin.credentials(email), client_options={"api_endpoint": standin.url})


@pytest.fixture
def client(standin: Standin) -> Client:
    return storage_client(standin)


@pytest.fixture
def bucket(client: Client, unique: str) -> Any:
    made = client.bucket(f"noetl-{unique}")
    made.iam_configuration.uniform_bucket_level_access_enabled = True
    client.create_bucket(made, location=REGION)
    return made


def grant(bucket: Any, role: str, email: str, condition: str | None = None) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.version = 3
    binding = {"role": role, "members": {f"serviceAccount:{email}"}}
    policy.bindings.append(binding | ({"condition": {"title": "x", "expression": condition}} if condition else {}))
    bucket.set_iam_policy(policy)


def test_a_bucket_s_metadata_is_read_back_as_it_was_set(standin: Standin, unique: str) -> None:
    given = {
        "name": f"noetl-{unique}",
        "location": REGION,
        "labels": {"app": "noetl"},
        "iamConfiguration": {**UNIFORM, "publicAccessPrevention": "enforced"},
        "versioning": {"enabled": True},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
        "lifecycle": {
            "rule": [{"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["results/"]}}]
        },
    }
    url = f"{standin.url}/storage/v1/b"
    made = call(f"{url}?project={PROJECT}", "POST", given, standin.token)
    found = call(f"{url}/{given['name']}", "GET", token=standin.token)
    assert made == found
    assert {name: found[name] for name in ("labels", "lifecycle", "versioning")} == {
        name: given[name] for name in ("labels", "lifecycle", "versioning")
    }
    assert (found["location"], found["storageClass"]) == (REGION.upper(), "STANDARD")
    assert found["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert found["softDeletePolicy"]["retentionDurationSeconds"] == "0"
    patch = {"labels": {"app": None, "team": "x"}, "lifecycle": None}
    patched = call(f"{url}/{given['name']}", "PATCH", patch, standin.token)
    assert patched["labels"] == {"team": "x"} and "lifecycle" not in patched
    assert patched["metageneration"] == "2" and patched["versioning"] == {"enabled": True}
    assert given["name"] in [
        one["name"] for one in call(f"{url}?project={PROJECT}", "GET", token=standin.token)["items"]
    ]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"colour": "red"}, "INVALID_ARGUMENT"),
        ({"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"ages": 3}}]}}, "INVALID_ARGUMENT"),
        ({"labels": {"app": 1}}, "INVALID_ARGUMENT"),
        ({"name": "Upper"}, "INVALID_ARGUMENT"),
        ({"cors": []}, "UNIMPLEMENTED"),
        ({"iamConfiguration": {}}, "UNIMPLEMENTED"),
        ({"softDeletePolicy": {"retentionDurationSeconds": 60}}, "INVALID_ARGUMENT"),
    ],
)
def test_a_bucket_that_is_not_valid_or_not_implemented_is_refused(
    standin: Standin, unique: str, wrong: dict[str, Any], status: str
) -> None:
    body = {"name": f"noetl-{unique}", "iamConfiguration": UNIFORM, **wrong}
    with pytest.raises(RuntimeError, match=status):
        call(f"{standin.url}/storage/v1/b?project={PROJECT}", "POST", body, standin.token)


def test_a_bucket_is_deleted_only_when_it_is_empty(client: Client, bucket: Any) -> None:
    bucket.blob("x").upload_from_string("x")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.blob("x").delete()
    bucket.delete()
    with pytest.raises(exceptions.NotFound):
        client.get_bucket(bucket.name)


def test_objects_are_written_read_in_part_listed_and_deleted(bucket: Any) -> None:
    blob = bucket.blob("results/a/1")
    blob.metadata = {"owner": "ann"}
    blob.upload_from_string(b"0123456789", content_type="application/json")
    found = bucket.get_blob("results/a/1")
    assert (found.size, found.content_type, found.metadata) == (10, "application/json", {"owner": "ann"})
    assert found.download_as_bytes() == b"0123456789"
    assert found.download_as_bytes(start=2, end=4) == b"234"
    bucket.blob("other").upload_from_string(b"x")
    assert [one.name for one in bucket.list_blobs(prefix="results/")] == ["results/a/1"]
    blob.delete()
    with pytest.raises(exceptions.NotFound):
        blob.delete()
    assert bucket.get_blob("results/a/1") is None


def test_a_listing_comes_in_pages(client: Client, bucket: Any) -> None:
    for index in range(5):
        bucket.blob(f"l{index}").upload_from_string(b"x")
    pages = client.list_blobs(bucket, page_size=2).pages
    assert [[one.name for one in page] for page in pages] == [["l0", "l1"], ["l2", "l3"], ["l4"]]


def test_a_large_object_is_uploaded_in_pieces(bucket: Any) -> None:
    content = bytes(range(256)) * 4096
    blob = bucket.blob("large", chunk_size=256 * 1024)
    blob.upload_from_string(content)
    assert bucket.blob("large").download_as_bytes() == content


def test_objects_are_composed_and_copied(bucket: Any) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(name)
    bucket.blob("both").compose([bucket.blob("a"), bucket.blob("b")])
    assert bucket.blob("both").download_as_bytes() == b"ab"
    bucket.copy_blob(bucket.blob("both"), bucket, "copy")
    assert bucket.blob("copy").download_as_bytes() == b"ab"


def test_preconditions_hold_for_every_way_to_write(bucket: Any) -> None:
    blob = bucket.blob("once")
    blob.upload_from_string(b"first", if_generation_match=0)
    generation = bucket.get_blob("once").generation
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(b"second", if_generation_match=0)
    pieces = bucket.blob("once", chunk_size=256 * 1024)
    with pytest.raises(exceptions.PreconditionFailed):
        pieces.upload_from_string(b"x" * 2**19, if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=generation + 1)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.download_as_bytes(if_generation_match=generation + 1)
    assert blob.download_as_bytes() == b"first"
    blob.delete(if_generation_match=generation)


def test_content_that_does_not_match_its_checksum_is_refused(standin: Standin, bucket: Any) -> None:
    metadata = json.dumps({"name": "x", "crc32c": "AAAAAA=="})
    body = f"--b\r\nContent-Type: application/json\r\n\r\n{metadata}\r\n--b\r\n\r\nhello\r\n--b--"
    http = storage_client(standin)._http
    answer = http.post(
        f"{standin.url}/upload/storage/v1/b/{bucket.name}/o?uploadType=multipart",
        data=body.encode(),
        headers={"Content-Type": "multipart/related; boundary=b"},
    )
    assert answer.status_code == 400 and "crc32c" in answer.text
    assert answer.json()["error"]["errors"][0]["reason"] == "INVALID_ARGUMENT"


def test_many_are_deleted_in_one_batch(client: Client, bucket: Any) -> None:
    for name in ("a", "b", "c/d"):
        bucket.blob(name).upload_from_string(b"x")
    with client.batch():
        bucket.delete_blob("a")
        bucket.delete_blob("c/d")
    assert [one.name for one in bucket.list_blobs()] == ["b"]


def read(bucket: Any) -> None:
    bucket.blob("results/a").download_as_bytes()


def list_all(bucket: Any) -> None:
    list(bucket.list_blobs(prefix="results/"))


def create(bucket: Any) -> None:
    bucket.blob("results/new").upload_from_string(b"x")


def replace(bucket: Any) -> None:
    bucket.blob("results/a").upload_from_string(b"y")


def delete(bucket: Any) -> None:
    bucket.blob("results/a").delete()


ALL = (read, list_all, create, replace, delete)


@pytest.mark.parametrize(
    ("role", "permitted"),
    [
        ("roles/storage.objectViewer", [read, list_all]),
        ("roles/storage.objectCreator", [create]),
        ("roles/storage.objectUser", ALL),
        ("roles/storage.legacyObjectReader", [read]),
        ("roles/storage.bucketViewer", []),
    ],
)
def test_each_role_permits_what_google_documents_and_no_more(
    standin: Standin, bucket: Any, account: str, role: str, permitted: Collection[Callable[[Any], None]]
) -> None:
    bucket.blob("results/a").upload_from_string(b"x")
    grant(bucket, role, account)
    theirs = storage_client(standin, account).bucket(bucket.name)
    for action in ALL:
        if action in permitted:
            action(theirs)
        else:
            with pytest.raises(exceptions.Forbidden):
                action(theirs)


def test_a_resumable_upload_is_refused_to_those_who_may_not_create(standin: Standin, bucket: Any, account: str) -> None:
    theirs = storage_client(standin, account).bucket(bucket.name)
    with pytest.raises(exceptions.Forbidden, match=r"storage\.objects\.create"):
        theirs.blob("large", chunk_size=256 * 1024).upload_from_string(b"x" * 2**19)


def test_a_condition_on_names_limits_a_role_to_them(standin: Standin, bucket: Any, account: str) -> None:
    prefix = f"projects/_/buckets/{bucket.name}/objects/results/"
    listed = 'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("results/")'
    grant(bucket, "roles/storage.objectUser", account, condition=f'resource.name.startsWith("{prefix}") || {listed}')
    for name in ("results/a", "private/a"):
        bucket.blob(name).upload_from_string(b"x")
    theirs = storage_client(standin, account).bucket(bucket.name)
    assert theirs.blob("results/a").download_as_bytes() == b"x"
    assert [one.name for one in theirs.list_blobs(prefix="results/")] == ["results/a"]
    with pytest.raises(exceptions.Forbidden):
        theirs.blob("private/a").download_as_bytes()
    with pytest.raises(exceptions.Forbidden):
        list(theirs.list_blobs())
    with pytest.raises(exceptions.BadRequest, match="does not evaluate"):
        grant(bucket, "roles/storage.objectUser", account, condition='request.time < timestamp("2030-01-01")')


def test_a_bucket_that_prevents_public_access_is_not_opened_to_all(client: Client, bucket: Any) -> None:
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.patch()
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"allUsers"}})
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.set_iam_policy(policy)


def test_a_topic_is_notified_of_new_objects_below_a_prefix_once_storage_may_publish(
    standin: Standin, client: Client, bucket: Any, unique: str, target: Recorder, target_port: int
) -> None:
    publisher, subscriber = standin.client(PublisherClient), standin.client(SubscriberClient)
    topic = publisher.create_topic(name=f"projects/{PROJECT}/topics/{unique}").name
    endpoint = {"push_endpoint": f"http://127.0.0.1:{target_port}/"}
    subscriber.create_subscription(
        request={"name": f"projects/{PROJECT}/subscriptions/{unique}", "topic": topic, "push_config": endpoint}
    )
    notification = bucket.notification(
        topic_name=unique,
        topic_project=PROJECT,
        event_types=["OBJECT_FINALIZE"],
        blob_name_prefix="results/",
        payload_format="JSON_API_V1",
        custom_attributes={"app": "noetl"},
    )
    with pytest.raises(exceptions.BadRequest, match="does not have permission to publish"):
        notification.create()
    agent = client.get_service_account_email()
    policy = publisher.get_iam_policy(request={"resource": topic})
    policy.bindings.add(role="roles/pubsub.publisher", members=[f"serviceAccount:{agent}"])
    publisher.set_iam_policy(request={"resource": topic, "policy": policy})
    notification.create()
    assert [one.notification_id for one in bucket.list_notifications()] == [notification.notification_id]
    bucket.blob("other/a").upload_from_string(b"x")
    bucket.blob("results/a").upload_from_string(b"x")
    # other events than those that are chosen
    bucket.blob("results/a").delete()
    large = bucket.blob("results/large", chunk_size=256 * 1024)
    large.upload_from_string(b"x" * 2**19)
    messages = sorted(
        (json.loads(arrival.body)["message"] for arrival in target.wait(2)),
        key=lambda message: message["attributes"]["objectId"],
    )
    assert [message["attributes"]["objectId"] for message in messages] == ["results/a", "results/large"]
    assert messages[0]["attributes"] | {"objectGeneration": "", "eventTime": ""} == {
        "app": "noetl",
        "bucketId": bucket.name,
        "eventTime": "",
        "eventType": "OBJECT_FINALIZE",
        "notificationConfig": f"projects/_/buckets/{bucket.name}/notificationConfigs/{notification.notification_id}",
        "objectGeneration": "",
        "objectId": "results/a",
        "payloadFormat": "JSON_API_V1",
    }
    assert json.loads(base64.b64decode(messages[1]["data"]))["size"] == str(2**19)
    notification.delete()
    bucket.blob("results/b").upload_from_string(b"x")
    time.sleep(0.2)
    assert len(target.arrivals) == 2


def test_a_topic_is_notified_of_what_becomes_of_an_object(
    standin: Standin, client: Client, bucket: Any, topic: str, publisher: Any, subscriber: Any, unique: str
) -> None:
    subscription = subscriber.create_subscription(name=f"projects/{PROJECT}/subscriptions/{unique}", topic=topic).name
    policy = publisher.get_iam_policy(request={"resource": topic})
    policy.bindings.add(role="roles/pubsub.publisher", members=[f"serviceAccount:{client.get_service_account_email()}"])
    publisher.set_iam_policy(request={"resource": topic, "policy": policy})
    # of all that happens
    bucket.notification(topic_name=unique, topic_project=PROJECT).create()
    blob = bucket.blob("a")
    blob.upload_from_string(b"x")
    first = str(blob.generation)
    blob.metadata = {"seen": "yes"}
    blob.patch()
    blob.upload_from_string(b"y")
    second = str(blob.generation)
    blob.delete()
    request = {"subscription": subscription, "max_messages": 10, "return_immediately": True}
    found = [dict(received.message.attributes) for received in subscriber.pull(request=request).received_messages]
    assert [(one["eventType"], one["objectGeneration"]) for one in found] == [
        ("OBJECT_FINALIZE", first),
        ("OBJECT_METADATA_UPDATE", first),
        ("OBJECT_FINALIZE", second),
        ("OBJECT_DELETE", first),
        ("OBJECT_DELETE", second),
    ]
    assert (found[2]["overwroteGeneration"], found[3]["overwrittenByGeneration"]) == (first, second)
    assert "overwroteGeneration" not in found[0] and "overwrittenByGeneration" not in found[4]
    with pytest.raises(exceptions.BadRequest, match="event_types"):
        bucket.notification(topic_name=unique, topic_project=PROJECT, event_types=["OBJECT_READ"]).create()


def test_what_is_not_there_is_refused(standin: Standin, bucket: Any) -> None:
    url = f"{standin.url}/storage/v1/b/{bucket.name}/o/{quote('a/b', safe='')}"
    with pytest.raises(RuntimeError, match="UNIMPLEMENTED"):
        call(f"{url}/acl", "GET", token=standin.token)
    with pytest.raises(RuntimeError, match="INVALID_ARGUMENT"):
        call(f"{url}?colour=red", "GET", token=standin.token)
