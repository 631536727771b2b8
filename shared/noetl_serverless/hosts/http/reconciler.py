"""The reconciler as an HTTP function: each request is one pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ...reconciler.objects import WrittenObject
from ...reconciler.passes import Passes
from ...reconciler.service import create_app
from ...reconciler.triggers import TriggerSource
from ..assembly.reconciler import reconciler
from ..assembly.service import Service
from ..platform import Platform


def service(
    platform: Platform,
    request_another: Callable[[], Awaitable[object]] | None = None,
    written_object: Callable[[bytes], WrittenObject | None] = lambda body: None,
    sources: Mapping[str, TriggerSource] | None = None,
) -> Service:
    """`request_another`: see `Passes`. `written_object`: the object of which a request's body tells, if it does.
    `sources`: see `reconciler`."""
    instance, notifications, database, close, objects = reconciler(platform, sources)

    async def database_answers() -> None:
        await database.run("SELECT 1")

    async def record(body: bytes) -> None:
        one = written_object(body)
        if one is not None:
            await objects.receive([one])

    app = create_app(
        Passes(instance, request_another),
        checks={"database": database_answers},
        close=notifications.close,
        on_message=record,
    )
    return Service(app, close)
