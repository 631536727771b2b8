"""The reconciler as an HTTP function: each request is one pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...reconciler.passes import Passes
from ...reconciler.service import create_app
from ..assembly.reconciler import reconciler
from ..assembly.service import Service
from ..platform import Platform


def service(platform: Platform, request_another: Callable[[], Awaitable[object]] | None = None) -> Service:
    """`request_another`: see `Passes`."""
    instance, notifications, database, close, _ = reconciler(platform)

    async def database_answers() -> None:
        await database.run("SELECT 1")

    app = create_app(
        Passes(instance, request_another), checks={"database": database_answers}, close=notifications.close
    )
    return Service(app, close)
