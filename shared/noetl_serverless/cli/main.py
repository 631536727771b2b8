"""`noetls`: the application with all commands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .commands import (
    archive,
    capsule,
    catalog,
    context,
    control,
    cost,
    credential,
    demo,
    deploy,
    diff,
    digest,
    executions,
    explain,
    fmt,
    graph,
    keychain,
    lint,
    pools,
    quarantine,
    replay,
    restart,
    results,
    run,
    schedule,
    schema,
    stack,
    test,
    trigger,
    variables,
)
from .input_help import RunCommand
from .output import reflowed
from .target import choose


class CommandGroup(TyperGroup):
    """Says in plain words what is wrong with an option."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # typer gives on the words of pydantic
            if (details := getattr(error.__cause__, "errors", None)) is not None:
                from ..telemetry.fault_text import text_of

                error.message = text_of(details()[0])
            raise


app = typer.Typer(
    name="noetls",
    cls=CommandGroup,
    help="Run durable YAML playbooks on stateless functions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# commands that work on this machine only and take no --context
LOCAL = frozenset({"up", "down", "status", "token", "demo", "test"})


def print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"noetls {version('noetl-serverless')}")
        raise typer.Exit


@app.callback()
def main(
    invoked: typer.Context,
    name: Annotated[str | None, typer.Option("--context", help="Use this deployment instead of a local stack.")] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if name is not None and invoked.invoked_subcommand in LOCAL:
        raise typer.BadParameter(f"{invoked.invoked_subcommand} works only on this machine", param_hint="--context")
    choose(name)


app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(stack.token)
app.command(cls=RunCommand)(run.run)
app.command()(catalog.register)
app.command("list")(catalog.list_)
app.command()(lint.lint)
app.command("fmt")(fmt.fmt)
app.command()(schema.schema)
app.command("test")(test.run_tests)
app.command()(graph.graph)
app.command()(executions.executions)
app.command("show")(executions.show_)
app.command()(executions.events)
app.command()(executions.cancel)
app.command()(control.pause)
app.command()(control.resume)
app.command()(control.signal)
app.command()(control.approve)
app.command("vars")(variables.variables)
app.command()(restart.restart)
app.command()(replay.replay)
app.command()(replay.rebuild)
app.command()(diff.diff)
app.command()(digest.digest)
app.command()(explain.explain)
app.command()(pools.pools)
app.command()(cost.cost)
app.command()(capsule.export)
app.command()(capsule.rerun)
app.command(epilog=reflowed(archive.EPILOG))(archive.archive)
app.command(hidden=True)(demo.demo)
app.add_typer(catalog.app, name="catalog")
app.add_typer(credential.app, name="credential")
app.add_typer(keychain.app, name="keychain")
app.add_typer(schedule.app, name="schedule")
app.add_typer(trigger.app, name="trigger")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(results.app, name="result")
app.add_typer(context.app, name="context")
app.add_typer(deploy.app, name="deploy")
