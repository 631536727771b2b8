"""`noetls`: the commands, put together."""

from __future__ import annotations

import typer

from .commands import (
    archive,
    capsule,
    catalog,
    cost,
    credential,
    demo,
    diff,
    digest,
    executions,
    explain,
    replay,
    run,
    schedule,
    stack,
)

app = typer.Typer(
    name="noetls",
    help="Durable YAML playbooks on an engine that is only stateless functions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(run.run)
app.command()(catalog.register)
app.command("list")(catalog.list_)
app.command()(catalog.lint)
app.command()(executions.executions)
app.command("show")(executions.show_)
app.command()(executions.events)
app.command()(executions.cancel)
app.command()(replay.replay)
app.command()(replay.rebuild)
app.command()(diff.diff)
app.command()(digest.digest)
app.command()(explain.explain)
app.command()(cost.cost)
app.command()(capsule.export)
app.command()(capsule.rerun)
app.command(epilog=archive.EPILOG)(archive.archive)
app.command(hidden=True)(demo.demo)
app.add_typer(credential.app, name="credential")
app.add_typer(schedule.app, name="schedule")
