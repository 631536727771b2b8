"""pools: the pools of workers, and who is at work."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..options import DataOption, JsonOption
from ..output import command, echo, print_json, show, table
from ..target import running_stack

PAGE_ROWS = 1000
COLUMNS = ("pool", "instances", "version", "capacity", "running", "last_heartbeat", "state")
INSTANCE_COLUMNS = ("name", "kind", "pool", "version", "capacity", "running", "last_heartbeat", "state")

InstancesOption = Annotated[
    bool, typer.Option("--instances", help="List each instance, also of functions other than workers.")
]


@command
def pools(data: DataOption = None, instances: InstancesOption = False, as_json: JsonOption = False) -> None:
    """List the pools of workers: their instances, commands at once and running, and what state they are in.

    busy: commands run. ready: an instance waits for work. idle: instances have ended their work, and are frozen or gone
    until commands wait for them. dead: none has been heard of for a minute, and none was idle. unused: none has been
    heard of for an hour. `pool: NAME` lets a step run in a pool.
    """
    items: list[dict[str, Any]] = []
    with running_stack(data) as client:
        answer = client.get("/api/worker/pools", limit=PAGE_ROWS if instances else 1)
        while instances:
            items += answer["items"]
            if answer["next"] is None:
                break
            answer = client.get("/api/worker/pools", limit=PAGE_ROWS, after=answer["next"])
    if as_json:
        print_json(items if instances else answer["pools"])
    elif instances:
        rows = [{**item, "last_heartbeat": item["heartbeat"]} for item in items]
        show(table(INSTANCE_COLUMNS, [[row[column] for column in INSTANCE_COLUMNS] for row in rows]))
    else:
        show(table(COLUMNS, [[_cells(pool)[column] for column in COLUMNS] for pool in answer["pools"]]))
        for pool in answer["pools"]:
            if pool["deployed"] is False:
                echo(f"the deployment has no pool {pool['pool']} any more")


def _cells(pool: dict[str, Any]) -> dict[str, Any]:
    dead = f" ({pool['dead']} dead)" if pool["dead"] else ""
    return {
        **pool,
        "instances": f"{pool['instances']}{dead}" if dead else pool["instances"],
        "version": ", ".join(pool["versions"]),
        "last_heartbeat": pool["heartbeat"],
    }
