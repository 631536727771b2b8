"""deploy aws plan, apply, destroy, outputs, smoke."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..failure import EXIT_FAILED
from ..options import JsonOption
from ..output import command, echo, print_json, show, table
from ..target import chosen

app = typer.Typer(help="Deploy the engine to a cloud.", no_args_is_help=True)
aws = typer.Typer(help="Deploy the engine to AWS with Terraform.", no_args_is_help=True)
app.add_typer(aws, name="aws")

DirectoryOption = Annotated[
    Path | None,
    typer.Option("--directory", help="Folder of the Terraform configuration.", show_default="infra/aws of the project"),
]
VarFileOption = Annotated[
    list[Path] | None, typer.Option("--var-file", help="File with Terraform variables.", exists=True)
]
VarOption = Annotated[list[str] | None, typer.Option("--var", help="Set a Terraform variable: name=value.")]
BackendOption = Annotated[
    list[str] | None, typer.Option("--backend-config", help="Terraform backend configuration: key=value, or a file.")
]
PythonOption = Annotated[str, typer.Option("--python", help="Python version of the functions: 3.12 or 3.13.")]
ArchitectureOption = Annotated[
    str, typer.Option("--architecture", help="Architecture of the functions: x86_64 or arm64.")
]
PackageOption = Annotated[
    Path | None, typer.Option("--package", help="Deploy the packages in this folder, which `make package` wrote.")
]
TerraformOption = Annotated[
    Path | None, typer.Option("--terraform", help="Path of the terraform program.", show_default="from PATH")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@aws.command()
@command
def plan(
    directory: DirectoryOption = None,
    var_file: VarFileOption = None,
    var: VarOption = None,
    backend_config: BackendOption = None,
    python: PythonOption = "3.12",
    architecture: ArchitectureOption = "x86_64",
    package: PackageOption = None,
    terraform: TerraformOption = None,
) -> None:
    """Package the functions and show what apply would change."""
    runner = _terraform(directory, terraform)
    runner.init(backend_config or ())
    runner.plan(_variables(package, python, architecture, var_file, var))


@aws.command()
@command
def apply(
    directory: DirectoryOption = None,
    var_file: VarFileOption = None,
    var: VarOption = None,
    backend_config: BackendOption = None,
    python: PythonOption = "3.12",
    architecture: ArchitectureOption = "x86_64",
    package: PackageOption = None,
    terraform: TerraformOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Package the functions, deploy them, migrate the database, and store the deployment as a context."""
    from ..contexts import Contexts
    from ..deploy.aws import context_of

    runner = _terraform(directory, terraform)
    runner.init(backend_config or ())
    runner.apply(_variables(package, python, architecture, var_file, var), approved=yes)
    context = context_of(runner.outputs(), chosen())
    Contexts().save(context)
    if as_json:
        print_json({"status": "deployed", "context": context.name, **context.public()})
    else:
        echo(f"deployed; to run a playbook: noetls --context {context.name} run PLAYBOOK")


@aws.command()
@command
def destroy(
    directory: DirectoryOption = None,
    var_file: VarFileOption = None,
    var: VarOption = None,
    backend_config: BackendOption = None,
    python: PythonOption = "3.12",
    architecture: ArchitectureOption = "x86_64",
    package: PackageOption = None,
    terraform: TerraformOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove everything that apply has created, including the database and the results."""
    from ..contexts import Contexts

    runner = _terraform(directory, terraform)
    runner.init(backend_config or ())
    name = chosen() or runner.outputs().get("prefix")
    runner.destroy(_variables(package, python, architecture, var_file, var), approved=yes)
    if name is not None:
        Contexts().remove(str(name))
    if as_json:
        print_json({"status": "destroyed"})
    else:
        echo("destroyed")


@aws.command()
@command
def outputs(directory: DirectoryOption = None, terraform: TerraformOption = None, as_json: JsonOption = False) -> None:
    """Print Terraform's outputs of the deployment."""
    found = _terraform(directory, terraform).outputs()
    if as_json:
        print_json(found)
    else:
        show(table(("output", "value"), sorted(found.items())))


@aws.command()
@command
def smoke(
    directory: DirectoryOption = None,
    terraform: TerraformOption = None,
    items: Annotated[int, typer.Option("--items", min=1, help="Number of items in the loop.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Check a deployment: its probes, a chain of steps, and a loop.

    Checks the deployment of --context, or else that of --directory. Exit status 1 if a check fails."""
    from contextlib import closing

    from ..contexts import Contexts
    from ..deploy.aws import context_of
    from ..deploy.smoke import Check
    from ..deploy.smoke import smoke as try_it

    name = chosen()
    context = Contexts().load(name) if name else context_of(_terraform(directory, terraform).outputs(), None)

    def print_check(check: Check) -> None:
        if not as_json:
            echo(f"{'✓' if check.ok else '✗'} {check.name}  {check.seconds:.2f} s  {check.detail}")

    with closing(context.client()) as client:
        checks = try_it(context, client, items, print_check)
    ok = all(check.ok for check in checks)
    if as_json:
        print_json({"status": "ok" if ok else "failed", "checks": [asdict(check) for check in checks]})
    if not ok:
        raise typer.Exit(EXIT_FAILED)


def _terraform(directory: Path | None, program: Path | None):  # type: ignore[no-untyped-def]
    from ..deploy.aws import project
    from ..deploy.terraform import Terraform

    return Terraform((directory or project() / "infra" / "aws").resolve(), [str(program)] if program else None)


def _variables(
    package: Path | None, python: str, architecture: str, files: list[Path] | None, assignments: list[str] | None
) -> list[str]:
    from ..deploy.aws import package as make_package
    from ..deploy.aws import variables

    folder = package or make_package(python, architecture, None)
    return variables(folder, files or (), assignments or ())
