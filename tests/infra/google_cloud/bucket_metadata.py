"""What a bucket's JSON may have: each field's type, and what Google says beyond what was given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from .errors import InvalidArgument, Unimplemented
from .json_form import ANY_NAME, NUMBER, check
from .messages import now
from .project import Project

_CONDITION = {
    "age": NUMBER,
    "createdBefore": str,
    "daysSinceNoncurrentTime": NUMBER,
    "isLive": bool,
    "matchesPrefix": [str],
    "matchesStorageClass": [str],
    "matchesSuffix": [str],
    "noncurrentTimeBefore": str,
    "numNewerVersions": NUMBER,
}
_FIELDS: Mapping[str, Any] = {
    "name": str,
    "location": str,
    "storageClass": str,
    "labels": {ANY_NAME: str},
    "lifecycle": {"rule": [{"action": {"type": str, "storageClass": str}, "condition": _CONDITION}]},
    "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": bool}, "publicAccessPrevention": str},
    "versioning": {"enabled": bool},
    "softDeletePolicy": {"retentionDurationSeconds": NUMBER},
}
# of Google's, but not here
_UNIMPLEMENTED = frozenset(
    [
        "acl",
        "autoclass",
        "billing",
        "cors",
        "customPlacementConfig",
        "defaultEventBasedHold",
        "defaultObjectAcl",
        "encryption",
        "hierarchicalNamespace",
        "ipFilter",
        "logging",
        "objectRetention",
        "retentionPolicy",
        "rpo",
        "website",
    ]
)
# as Google ignores them where a client sends them
_OUTPUT = frozenset(
    [
        "etag",
        "generation",
        "id",
        "kind",
        "locationType",
        "metageneration",
        "projectNumber",
        "selfLink",
        "timeCreated",
        "updated",
        "owner",
    ]
)
_OUTPUT_BELOW = frozenset({"bucketPolicyOnly", "lockedTime", "effectiveTime"})
_NAME = re.compile(r"(?!goog)[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_PREVENTIONS = ("enforced", "inherited")
_SOFT_DELETE_SECONDS = 604800
_MAX_SOFT_DELETE_SECONDS = 7776000


def checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a client gives, without what only Google sets. Raises InvalidArgument, Unimplemented."""
    given = {name: _without(value, _OUTPUT_BELOW) for name, value in document.items() if name not in _OUTPUT}
    for name in given:
        if name in _UNIMPLEMENTED:
            raise Unimplemented(f"The stand-in does not implement the field {name} of a bucket.")
    check(given, _FIELDS, "bucket")
    return given


def created(project: Project, given: dict[str, Any], url: str) -> dict[str, Any]:
    """A new bucket's metadata. InvalidArgument."""
    name = given.get("name", "")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid bucket name: '{name}'")
    time = _time()
    return _settled(
        {
            "storageClass": "STANDARD",
            "location": "US",
            "softDeletePolicy": {"retentionDurationSeconds": str(_SOFT_DELETE_SECONDS)},
            **given,
            "kind": "storage#bucket",
            "id": name,
            "selfLink": f"{url}/storage/v1/b/{name}",
            "projectNumber": project.number,
            "metageneration": "1",
            "timeCreated": time,
            "updated": time,
        }
    )


def patched(bucket: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """By JSON merge: null removes. InvalidArgument."""
    changed = _merged(bucket, given)
    return _settled({**changed, "metageneration": str(int(bucket["metageneration"]) + 1), "updated": _time()})


def replaced(bucket: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in bucket.items() if name in _OUTPUT or name in ("name", "location")}
    return patched({"storageClass": "STANDARD", **kept}, given)


def _settled(bucket: dict[str, Any]) -> dict[str, Any]:
    """With what follows from what is set."""
    access = bucket.setdefault("iamConfiguration", {})
    uniform = access.setdefault("uniformBucketLevelAccess", {})
    if not uniform.get("enabled"):
        raise Unimplemented(
            "The stand-in implements no access control lists: set iamConfiguration.uniformBucketLevelAccess.enabled."
        )
    uniform.setdefault("lockedTime", bucket["timeCreated"])
    access["bucketPolicyOnly"] = dict(uniform)
    if access.setdefault("publicAccessPrevention", "inherited") not in _PREVENTIONS:
        raise InvalidArgument(f"publicAccessPrevention must be one of {', '.join(_PREVENTIONS)}.")
    policy = bucket.setdefault("softDeletePolicy", {"retentionDurationSeconds": "0"})
    policy["retentionDurationSeconds"] = str(policy.get("retentionDurationSeconds", 0))
    retention = int(policy["retentionDurationSeconds"])
    if retention and not _SOFT_DELETE_SECONDS <= retention <= _MAX_SOFT_DELETE_SECONDS:
        raise InvalidArgument("softDeletePolicy.retentionDurationSeconds must be 0, or 7 to 90 days.")
    policy.setdefault("effectiveTime", bucket["timeCreated"])
    bucket["location"] = bucket["location"].upper()
    bucket["locationType"] = "region" if "-" in bucket["location"] else "multi-region"
    bucket["etag"] = f"CA{bucket['metageneration']}="
    return bucket


def _without(value: Any, names: frozenset[str]) -> Any:
    """Without those fields, at any depth."""
    if not isinstance(value, dict):
        return deepcopy(value)
    return {name: _without(one, names) for name, one in value.items() if name not in names}


def _merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(stored))
    for name, value in given.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _time() -> str:
    return now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
