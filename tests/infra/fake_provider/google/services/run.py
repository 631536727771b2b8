"""Cloud Run."""

from __future__ import annotations

from typing import Any

from ...given import Given
from ...resource import HalfMade, State
from ..api import Api, OperationFailed
from ..policy import Member
from ..resource import Operated, variables

_PROBE_DEFAULTS: dict[str, Any] = {
    "failure_threshold": 3,
    "initial_delay_seconds": 0,
    "period_seconds": 10,
    "timeout_seconds": 1,
    "http_get.path": "/",
    "http_get.http_headers.value": "",
}


class Service(Operated):
    type = "google_cloud_run_v2_service"
    service = "cloud_run_v2"
    path = "projects/{project}/locations/{location}/services/{name}"
    id_parameter = "serviceId"
    masked = False
    replace = ("location", "name", "project")
    local = ("deletion_protection",)
    defaults = {
        "deletion_protection": True,
        "template.containers.env.value": "",
        "template.volumes.empty_dir.medium": "MEMORY",
        **{f"template.containers.liveness_probe.{name}": value for name, value in _PROBE_DEFAULTS.items()},
        **{f"template.containers.startup_probe.{name}": value for name, value in _PROBE_DEFAULTS.items()},
    }
    left_open = (
        "template.containers.ports",
        "template.containers.resources",
        "template.containers.startup_probe",
        "template.scaling",
        "traffic",
    )
    volatile = (
        "build_config.name",
        "conditions",
        "etag",
        "generation",
        "last_modifier",
        "latest_created_revision",
        "latest_ready_revision",
        "observed_generation",
        "template.containers.build_info",
        "terminal_condition",
        "traffic_statuses",
        "update_time",
    )
    choices = {
        "ingress": ("INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"),
        "launch_stage": ("UNIMPLEMENTED", "PRELAUNCH", "EARLY_ACCESS", "ALPHA", "BETA", "GA", "DEPRECATED"),
        "scaling.scaling_mode": ("AUTOMATIC", "MANUAL"),
        "template.execution_environment": ("EXECUTION_ENVIRONMENT_GEN1", "EXECUTION_ENVIRONMENT_GEN2"),
        "template.volumes.empty_dir.medium": ("MEMORY",),
        "template.vpc_access.egress": ("ALL_TRAFFIC", "PRIVATE_RANGES_ONLY"),
        "traffic.type": ("TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"),
    }
    patterns = {
        # the API's: a DNS label of less than 50 characters
        "name": r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?",
        "template.timeout": r"[0-9]+(?:\.[0-9]{1,9})?s",
        "template.containers.env.name": r"[A-Za-z_][A-Za-z0-9_]*",
    }

    def create(self, api: Api, want: Given) -> State:
        try:
            return super().create(api, want)
        except OperationFailed as failed:
            # the service is there, without a revision that is ready
            key = self.key({name: want[name] for name in variables(self.path)})
            raise HalfMade({"id": key}, failed) from failed


class ServiceMember(Member):
    type = "google_cloud_run_v2_service_iam_member"
    service = "cloud_run_v2"
    path = "projects/{project}/locations/{location}/services/{name}"
