"""What a service may have: Google's defaults for what is not given, and what Google refuses.

Kept and read back without effect, because one machine has nothing of the kind: resources, network, ingress, execution
environment, startup probe, labels, annotations and descriptions.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from google.cloud import run_v2

from ..errors import InvalidArgument, Unimplemented
from ..messages import Form, Message, has, seconds, set_seconds

_TEMPLATE = """
    labels annotations scaling.min_instance_count scaling.max_instance_count vpc_access.egress
    vpc_access.network_interfaces timeout service_account execution_environment max_instance_request_concurrency
    containers.name containers.image containers.base_image_uri containers.env.name containers.env.value
    containers.resources containers.ports containers.startup_probe.tcp_socket
    containers.startup_probe.initial_delay_seconds containers.startup_probe.timeout_seconds
    containers.startup_probe.period_seconds containers.startup_probe.failure_threshold"""
SERVICE = Form(
    run_v2.Service,
    f"""
    name description labels annotations client client_version ingress launch_stage invoker_iam_disabled custom_audiences
    etag traffic.type_ traffic.percent scaling.min_instance_count scaling.max_instance_count
    build_config.source_location build_config.function_target build_config.image_uri build_config.base_image
    build_config.enable_automatic_updates build_config.environment_variables build_config.service_account
    {" ".join(f"template.{path}" for path in _TEMPLATE.split())}""",
    """
    uid generation create_time update_time delete_time expire_time creator last_modifier urls observed_generation
    terminal_condition conditions latest_ready_revision latest_created_revision traffic_statuses uri satisfies_pzs
    reconciling build_config.name template.containers.build_info""",
)

_LATEST = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
_RESERVED = ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION", "CLOUD_RUN_TIMEOUT_SECONDS")
_PORT = 8080
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_QUANTITY = re.compile(r"([0-9.]+)([a-zA-Z]*)")
# seconds
_TIMEOUT, _MAX_TIMEOUT = 300.0, 3600.0
_CONCURRENCY, _MAX_CONCURRENCY = 80, 1000
_INSTANCES = 100
# the most memory, in GiB, that so many processors may have, and the least
_MEMORY = {1: (0.125, 4), 2: (0.125, 8), 4: (2, 16), 6: (4, 24), 8: (4, 32)}


def settle(service: Message) -> None:
    """Raises InvalidArgument, Unimplemented."""
    if not service.ingress:
        service.ingress = run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL
    if not service.launch_stage:
        service.launch_stage = 4
    _settle_traffic(service)
    _settle_template(service.template)


def _settle_traffic(service: Message) -> None:
    if not service.traffic:
        service.traffic.add(type_=_LATEST, percent=100)
    if [(target.type_, target.percent) for target in service.traffic] != [(_LATEST, 100)]:
        raise Unimplemented("The stand-in sends all traffic to the latest revision.")


def _settle_template(template: Message) -> None:
    if not template.service_account:
        raise Unimplemented("The stand-in has no default service account: set template.service_account.")
    if not has(template, "timeout"):
        set_seconds(template.timeout, _TIMEOUT)
    if not 0 < seconds(template.timeout) <= _MAX_TIMEOUT:
        raise InvalidArgument("template.timeout should be at most 3600s.")
    template.max_instance_request_concurrency = template.max_instance_request_concurrency or _CONCURRENCY
    if not 0 < template.max_instance_request_concurrency <= _MAX_CONCURRENCY:
        raise InvalidArgument("template.max_instance_request_concurrency should be at most 1000.")
    template.scaling.max_instance_count = template.scaling.max_instance_count or _INSTANCES
    if not 0 <= template.scaling.min_instance_count <= template.scaling.max_instance_count:
        raise InvalidArgument("template.scaling.min_instance_count should be at most max_instance_count.")
    if len(template.containers) != 1:
        raise Unimplemented("The stand-in runs one container: template.containers must have one.")
    _settle_container(template.containers[0], template.max_instance_request_concurrency)


def _settle_container(container: Message, concurrency: int) -> None:
    if not container.image:
        raise InvalidArgument("template.containers[0].image should not be empty.")
    names = [variable.name for variable in container.env]
    if reserved := sorted(set(names) & set(_RESERVED)):
        raise InvalidArgument(f"The following reserved env names were provided: {', '.join(reserved)}.")
    if len(set(names)) < len(names):
        raise InvalidArgument("template.containers[0].env should have unique names.")
    if not container.ports:
        container.ports.add(name="http1", container_port=_PORT)
    resources = container.resources
    if not has(container, "resources"):
        resources.cpu_idle = True
    for name, default in (("cpu", "1000m"), ("memory", "512Mi")):
        if name not in resources.limits:
            resources.limits[name] = default
    _check_resources(resources.limits["cpu"], resources.limits["memory"], concurrency)
    if not has(container, "startup_probe"):
        probe = container.startup_probe
        probe.tcp_socket.port = container.ports[0].container_port
        probe.timeout_seconds, probe.period_seconds, probe.failure_threshold = 240, 240, 1


def _check_resources(cpu: str, memory: str, concurrency: int) -> None:
    processors = Decimal(cpu[:-1]) / 1000 if cpu.endswith("m") and cpu[:-1].isdigit() else _quantity("cpu", cpu)
    gigabytes = float(_quantity("memory", memory)) / 2**30
    if processors < 1 and concurrency > 1:
        raise InvalidArgument("Total cpu < 1 is not supported with concurrency > 1.")
    if processors >= 1 and processors not in _MEMORY:
        raise InvalidArgument(f"Invalid value specified for cpu: {cpu}. It must be 1, 2, 4, 6, 8, or less than 1.")
    least, most = _MEMORY[max(1, int(processors))]
    if not least <= gigabytes <= most:
        raise InvalidArgument(
            f"Invalid value specified for container memory: {memory}. With {cpu} CPU it must be {least} to {most} GiB."
        )


def _quantity(name: str, text: str) -> Decimal:
    found = _QUANTITY.fullmatch(text)
    try:
        if found is not None and found[2] in _UNITS:
            return Decimal(found[1]) * _UNITS[found[2]]
    except InvalidOperation:
        pass
    raise InvalidArgument(f"Invalid value specified for {name}: {text}.")
