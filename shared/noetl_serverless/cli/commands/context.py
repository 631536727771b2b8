"""context add, list, remove: deployments that noetls --context NAME talks to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..contexts import LAMBDA_SCHEME, Context, Contexts
from ..failure import WrongUse
from ..options import JsonOption
from ..output import command, echo, print_json, show, table

app = typer.Typer(help="Manage the deployments that `noetls --context NAME` uses.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of the context.")]


@app.command()
@command
def add(
    name: NameArgument,
    url: Annotated[
        str, typer.Option("--url", help="URL of the control plane: https://... or lambda://function:alias.")
    ],
    gateway_url: Annotated[str, typer.Option("--gateway-url", help="URL of the gateway.")] = "",
    region: Annotated[str, typer.Option("--region", help="AWS region, for lambda:// URLs.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Store a deployment's URL and operator token. The token is read from standard input."""
    if not url.startswith(("https://", "http://", LAMBDA_SCHEME)):
        raise WrongUse(f"--url must begin with https://, http:// or {LAMBDA_SCHEME}, not {url!r}")
    token = sys.stdin.readline().strip()
    if not token:
        raise WrongUse("pass the operator's service token on standard input")
    context = Context(name, url, token, gateway_url=gateway_url, region=region)
    path = Contexts().save(context)
    if as_json:
        print_json(context.public())
    else:
        echo(f"saved in {path}")


@app.command("list")
@command
def list_(as_json: JsonOption = False) -> None:
    """List the contexts."""
    contexts = Contexts()
    found = [contexts.load(name).public() for name in contexts.names()]
    if as_json:
        print_json(found)
    else:
        show(
            table(
                ("name", "url", "gateway"),
                [(context["name"], context["url"], context.get("gateway_url")) for context in found],
            )
        )


@app.command()
@command
def remove(name: NameArgument, as_json: JsonOption = False) -> None:
    """Remove a context. The deployment itself is not changed."""
    existed = Contexts().remove(name)
    if as_json:
        print_json({"status": "removed" if existed else "unknown", "name": name})
    elif existed:
        echo(f"removed {name}")
    else:
        raise WrongUse(f"context {name!r} does not exist")
