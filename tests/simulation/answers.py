"""The tools of the simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from noetl_serverless.tools.noop import Noop
from noetl_serverless.tools.playbook import SubPlaybook
from noetl_serverless.tools.wait import Wait

from .loop import Process
from .scripted import Scripted
from .token_server import TokenServer
from .user_database import UserPostgres

if TYPE_CHECKING:
    from .world import World


def loader(world: World, process: Process) -> Callable[[str], Any]:
    """Of one worker."""
    tools = {
        "noop": Noop(),
        "playbook": SubPlaybook(),
        "wait": Wait(),
        "python": Scripted(world),
        "postgres": UserPostgres(world, process),
        "http": TokenServer(world, process),
    }
    return tools.__getitem__
