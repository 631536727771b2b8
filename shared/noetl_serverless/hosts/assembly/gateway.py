"""The gateway: users' requests, over GraphQL and REST. It holds no database connection."""

from __future__ import annotations

from ...bus.connection import NatsConnection
from ...bus.nats_key_value import NatsKeyValue
from ...gateway.app import create_app
from ...gateway.control_plane import ControlPlane
from ...protocol import Instance
from ...telemetry import logs
from ..platform import Platform
from .attendance import attendance, attended
from .service import Service


def gateway(platform: Platform) -> Service:
    settings = platform.settings
    logs.setup("gateway", settings.log_level)
    sessions = NatsKeyValue(
        NatsConnection(settings.nats_url, ca=settings.nats_ca),
        ttl=settings.session_ttl,
        replicas=settings.nats_replicas,
    )
    control_plane = ControlPlane(settings.control_plane_url, settings.service_token, connect=platform.connect)

    async def register(instance: Instance) -> None:
        if instance.status == "ended":
            await control_plane.post("/api/worker/pool/deregister", {"name": instance.name, "kind": instance.kind})
        else:
            await control_plane.post("/api/worker/pool/register", instance.model_dump(exclude_none=True))

    present = attendance(platform, "gateway", register)
    # first: the app closes the client of the control plane when it ends
    app = create_app(settings, keyvalue=sessions, control_plane=control_plane, close=present.close)
    return Service(attended(app, present), (sessions.close,))
