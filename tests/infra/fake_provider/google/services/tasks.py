"""Cloud Tasks."""

from __future__ import annotations

from ..policy import Member
from ..resource import Rest


class Queue(Rest):
    type = "google_cloud_tasks_queue"
    service = "cloud_tasks"
    path = "projects/{project}/locations/{location}/queues/{name}"
    replace = ("location", "name", "project")
    left_open = ("rate_limits", "retry_config")
    volatile = ("rate_limits.max_burst_size",)
    durations = ("retry_config.max_backoff", "retry_config.max_retry_duration", "retry_config.min_backoff")
    kept = (
        "app_engine_routing_override.instance",
        "app_engine_routing_override.service",
        "app_engine_routing_override.version",
    )
    choices = {
        "http_target.http_method": (
            "HTTP_METHOD_UNSPECIFIED",
            "POST",
            "GET",
            "HEAD",
            "PUT",
            "DELETE",
            "PATCH",
            "OPTIONS",
        ),
        "http_target.uri_override.scheme": ("HTTP", "HTTPS"),
        "http_target.uri_override.uri_override_enforce_mode": ("ALWAYS", "IF_NOT_EXISTS"),
    }
    patterns = {
        # the API's
        "name": r"[A-Za-z0-9-]{1,100}",
        "http_target.uri_override.port": r"[0-9]+",
    }


class QueueMember(Member):
    type = "google_cloud_tasks_queue_iam_member"
    service = "cloud_tasks"
    path = "projects/{project}/locations/{location}/queues/{name}"
    reading = "POST"
