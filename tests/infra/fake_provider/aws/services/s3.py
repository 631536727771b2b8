"""S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from ..clients import Clients
from ..given import Given
from ..resource import Resource, State, as_pairs, is_gone, tag_changes, tags_given, tags_of


class Bucket(Resource):
    type = "aws_s3_bucket"
    replace = ("bucket",)
    defaults = {"force_destroy": False}
    local = ("force_destroy",)

    def create(self, aws: Clients, want: Given) -> State:
        place = {} if aws.region == "us-east-1" else {"LocationConstraint": aws.region}
        aws("s3").create_bucket(Bucket=want["bucket"], **({"CreateBucketConfiguration": place} if place else {}))
        self._tag(aws, want["bucket"], tags_given(want))
        return {"bucket": want["bucket"]}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        self._tag(aws, state["bucket"], tags_given(want))

    def read(self, aws: Clients, state: State) -> State | None:
        name = state["bucket"]
        aws("s3").head_bucket(Bucket=name)
        try:
            tags = tags_of(aws("s3").get_bucket_tagging(Bucket=name)["TagSet"])
        except ClientError as error:
            if not is_gone(error):
                raise
            tags = {}
        return {
            "id": name,
            "bucket": name,
            "bucket_prefix": "",
            "arn": f"arn:aws:s3:::{name}",
            "bucket_domain_name": f"{name}.s3.amazonaws.com",
            "bucket_region": aws.region,
            "bucket_regional_domain_name": f"{name}.s3.{aws.region}.amazonaws.com",
            "hosted_zone_id": "",
            "acceleration_status": "",
            "object_lock_enabled": False,
            "policy": "",
            "request_payer": "BucketOwner",
            "website_domain": "",
            "website_endpoint": "",
            "tags_all": tags,
        }

    def delete(self, aws: Clients, state: State) -> None:
        client, name = aws("s3"), state["bucket"]
        if state["force_destroy"]:
            for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
                gone = [
                    {"Key": one["Key"], "VersionId": one["VersionId"]}
                    for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
                ]
                if gone:
                    client.delete_objects(Bucket=name, Delete={"Objects": gone})
        client.delete_bucket(Bucket=name)

    def _tag(self, aws: Clients, name: str, tags: dict[str, str]) -> None:
        aws("s3").put_bucket_tagging(Bucket=name, Tagging={"TagSet": as_pairs(tags)})


class PublicAccessBlock(Resource):
    type = "aws_s3_bucket_public_access_block"
    replace = ("bucket",)
    defaults = {"skip_destroy": False}
    local = ("skip_destroy",)
    _words = {
        "block_public_acls": "BlockPublicAcls",
        "block_public_policy": "BlockPublicPolicy",
        "ignore_public_acls": "IgnorePublicAcls",
        "restrict_public_buckets": "RestrictPublicBuckets",
    }

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("s3").put_public_access_block(
            Bucket=want["bucket"], PublicAccessBlockConfiguration=want.pick(**self._words)
        )

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("s3").get_public_access_block(Bucket=state["bucket"])["PublicAccessBlockConfiguration"]
        words = {name: found[key] for name, key in self._words.items()}
        return {"id": state["bucket"], "bucket": state["bucket"], **words}

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").delete_public_access_block(Bucket=state["bucket"])


class OwnershipControls(Resource):
    type = "aws_s3_bucket_ownership_controls"
    replace = ("bucket",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        rules = [rule.pick("object_ownership") for rule in want.blocks("rule")]
        aws("s3").put_bucket_ownership_controls(Bucket=want["bucket"], OwnershipControls={"Rules": rules})

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("s3").get_bucket_ownership_controls(Bucket=state["bucket"])["OwnershipControls"]
        rules = [{"object_ownership": rule["ObjectOwnership"]} for rule in found["Rules"]]
        return {"id": state["bucket"], "bucket": state["bucket"], "rule": rules}

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").delete_bucket_ownership_controls(Bucket=state["bucket"])


class Encryption(Resource):
    type = "aws_s3_bucket_server_side_encryption_configuration"
    replace = ("bucket",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        rules = []
        for rule in want.blocks("rule"):
            how = rule.block("apply_server_side_encryption_by_default")
            assert how is not None
            default = how.pick(sse_algorithm="SSEAlgorithm", kms_master_key_id="KMSMasterKeyID")
            rules.append({"ApplyServerSideEncryptionByDefault": default, **rule.pick("bucket_key_enabled")})
        aws("s3").put_bucket_encryption(Bucket=want["bucket"], ServerSideEncryptionConfiguration={"Rules": rules})

    def read(self, aws: Clients, state: State) -> State | None:
        answer = aws("s3").get_bucket_encryption(Bucket=state["bucket"])
        rules = [
            {
                "bucket_key_enabled": rule.get("BucketKeyEnabled", False),
                "apply_server_side_encryption_by_default": [
                    {
                        "sse_algorithm": rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"],
                        "kms_master_key_id": rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID"),
                    }
                ],
            }
            for rule in answer["ServerSideEncryptionConfiguration"]["Rules"]
        ]
        return {"id": state["bucket"], "bucket": state["bucket"], "rule": rules}

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").delete_bucket_encryption(Bucket=state["bucket"])


class Versioning(Resource):
    type = "aws_s3_bucket_versioning"
    replace = ("bucket",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        block = want.block("versioning_configuration")
        assert block is not None
        aws("s3").put_bucket_versioning(Bucket=want["bucket"], VersioningConfiguration=block.pick("status"))

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("s3").get_bucket_versioning(Bucket=state["bucket"])
        how = {"status": found.get("Status", "Disabled"), "mfa_delete": found.get("MFADelete") or ""}
        return {"id": state["bucket"], "bucket": state["bucket"], "versioning_configuration": [how]}

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").put_bucket_versioning(Bucket=state["bucket"], VersioningConfiguration={"Status": "Suspended"})


class Lifecycle(Resource):
    type = "aws_s3_bucket_lifecycle_configuration"
    replace = ("bucket",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        rules = [self._rule(rule) for rule in want.blocks("rule")]
        aws("s3").put_bucket_lifecycle_configuration(Bucket=want["bucket"], LifecycleConfiguration={"Rules": rules})

    def _rule(self, rule: Given) -> dict[str, Any]:
        filter_, expiration = rule.block("filter"), rule.block("expiration")
        uploads, old = rule.block("abort_incomplete_multipart_upload"), rule.block("noncurrent_version_expiration")
        assert filter_ is not None
        return {
            "ID": rule["id"],
            "Status": rule["status"],
            "Filter": {"Prefix": filter_["prefix"] or ""},
            **({"Expiration": expiration.pick("days")} if expiration else {}),
            **({"AbortIncompleteMultipartUpload": uploads.pick("days_after_initiation")} if uploads else {}),
            **({"NoncurrentVersionExpiration": old.pick("noncurrent_days")} if old else {}),
        }

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("s3").get_bucket_lifecycle_configuration(Bucket=state["bucket"])
        return {
            "id": state["bucket"],
            "bucket": state["bucket"],
            "expected_bucket_owner": "",
            "transition_default_minimum_object_size": found.get(
                "TransitionDefaultMinimumObjectSize", "all_storage_classes_128K"
            ),
            "rule": [self._found(rule) for rule in found["Rules"]],
        }

    def _found(self, rule: dict[str, Any]) -> dict[str, Any]:
        days = (rule.get("Expiration") or {}).get("Days")
        uploads = (rule.get("AbortIncompleteMultipartUpload") or {}).get("DaysAfterInitiation")
        old = (rule.get("NoncurrentVersionExpiration") or {}).get("NoncurrentDays")
        return {
            "id": rule["ID"],
            "status": rule["Status"],
            "prefix": "",
            "filter": [{"prefix": (rule.get("Filter") or {}).get("Prefix", ""), "and": [], "tag": []}],
            "expiration": [{"days": days, "expired_object_delete_marker": False}] if days else [],
            "abort_incomplete_multipart_upload": [{"days_after_initiation": uploads}] if uploads else [],
            "noncurrent_version_expiration": [{"noncurrent_days": old}] if old else [],
            "noncurrent_version_transition": [],
            "transition": [],
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").delete_bucket_lifecycle(Bucket=state["bucket"])


class BucketPolicy(Resource):
    type = "aws_s3_bucket_policy"
    replace = ("bucket",)
    json = ("policy",)

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        aws("s3").put_bucket_policy(Bucket=want["bucket"], Policy=want["policy"])

    def read(self, aws: Clients, state: State) -> State | None:
        policy = aws("s3").get_bucket_policy(Bucket=state["bucket"])["Policy"]
        return {"id": state["bucket"], "bucket": state["bucket"], "policy": policy}

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").delete_bucket_policy(Bucket=state["bucket"])


class Notification(Resource):
    type = "aws_s3_bucket_notification"
    replace = ("bucket",)
    defaults = {"eventbridge": False}

    def create(self, aws: Clients, want: Given) -> State:
        self.update(aws, want, {})
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        want.forgo("eventbridge")
        topics = [self._topic(topic) for topic in want.blocks("topic")]
        aws("s3").put_bucket_notification_configuration(
            Bucket=want["bucket"], NotificationConfiguration={"TopicConfigurations": topics}
        )

    def _topic(self, topic: Given) -> dict[str, Any]:
        rules = [{"Name": "prefix", "Value": topic["filter_prefix"]}] if topic["filter_prefix"] else []
        return {
            **topic.pick("events", id="Id", topic_arn="TopicArn"),
            **({"Filter": {"Key": {"FilterRules": rules}}} if rules else {}),
        }

    def read(self, aws: Clients, state: State) -> State | None:
        found = aws("s3").get_bucket_notification_configuration(Bucket=state["bucket"])
        return {
            "id": state["bucket"],
            "bucket": state["bucket"],
            "eventbridge": "EventBridgeConfiguration" in found,
            "lambda_function": [],
            "queue": [],
            "topic": [self._found(topic) for topic in found.get("TopicConfigurations", ())],
        }

    def _found(self, topic: dict[str, Any]) -> dict[str, Any]:
        rules = {
            rule["Name"].lower(): rule["Value"]
            for rule in topic.get("Filter", {"Key": {"FilterRules": []}})["Key"]["FilterRules"]
        }
        return {
            "id": topic["Id"],
            "topic_arn": topic["TopicArn"],
            "events": topic["Events"],
            "filter_prefix": rules.get("prefix", ""),
            "filter_suffix": rules.get("suffix", ""),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").put_bucket_notification_configuration(Bucket=state["bucket"], NotificationConfiguration={})


class Object(Resource):
    type = "aws_s3_object"
    replace = ("bucket", "key")
    defaults = {"force_destroy": False}
    # a file of this machine
    kept = ("source",)
    local = ("force_destroy", "source_hash")
    volatile = ("etag", "version_id")

    def create(self, aws: Clients, want: Given) -> State:
        self._put(aws, want)
        return {}

    def update(self, aws: Clients, want: Given, state: State) -> None:
        tag_changes(want, state)
        self._put(aws, want)

    def read(self, aws: Clients, state: State) -> State | None:
        bucket, key = state["bucket"], state["key"]
        found = aws("s3").head_object(Bucket=bucket, Key=key)
        return {
            "id": f"{bucket}/{key}",
            "bucket": bucket,
            "key": key,
            "arn": f"arn:aws:s3:::{bucket}/{key}",
            "etag": found["ETag"].strip('"'),
            "content_type": found.get("ContentType", ""),
            "server_side_encryption": found.get("ServerSideEncryption", ""),
            "storage_class": found.get("StorageClass", "STANDARD"),
            "version_id": found.get("VersionId", ""),
            "bucket_key_enabled": bool(found.get("BucketKeyEnabled")),
            "kms_key_id": found.get("SSEKMSKeyId", ""),
            "acl": "",
            **{f"checksum_{kind}": "" for kind in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")},
            "tags_all": tags_of(aws("s3").get_object_tagging(Bucket=bucket, Key=key)["TagSet"]),
        }

    def delete(self, aws: Clients, state: State) -> None:
        aws("s3").delete_object(Bucket=state["bucket"], Key=state["key"])

    def _put(self, aws: Clients, want: Given) -> None:
        aws("s3").put_object(
            Bucket=want["bucket"],
            Key=want["key"],
            Body=Path(want["source"]).read_bytes(),
            Tagging="&".join(f"{name}={value}" for name, value in tags_given(want).items()),
        )
