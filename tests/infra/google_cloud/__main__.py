"""`python -m tests.infra.google_cloud --port N --home DIR --project P --region R --token ADMINTOKEN`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from .cloud import Cloud, Settings
from .project import Project

TOOLS = Path(__file__).parents[3] / "build" / "tools" / "google"


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    asyncio.run(serve(_settings()))


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    cloud = Cloud(settings)
    try:
        await cloud.start()
        await stopped.wait()
    finally:
        await cloud.stop()


def _settings() -> Settings:
    parser = argparse.ArgumentParser(
        prog="python -m tests.infra.google_cloud", description="Stand in for Google's APIs on 127.0.0.1."
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True, help="for logs and unpacked functions")
    parser.add_argument("--project", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--idle", type=float, default=900.0, help="seconds until an idle instance is stopped")
    parser.add_argument("--tools", type=Path, default=TOOLS, help="where functions' environments are kept")
    parser.add_argument("--token", required=True, help="the administrator's access token, which may do everything")
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    return Settings(
        port=given.port,
        home=given.home.resolve(),
        tools=given.tools.resolve(),
        project=Project(given.project, given.region),
        token=given.token,
        idle=given.idle,
    )


if __name__ == "__main__":
    main()
