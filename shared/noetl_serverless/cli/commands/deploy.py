"""deploy HOST plan, apply, migrate, destroy, outputs, smoke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..failure import EXIT_FAILED, Failure
from ..options import JsonOption
from ..output import command, echo, print_json, show, table
from ..target import chosen

if TYPE_CHECKING:
    from ..contexts import Context
    from ..deploy.terraform import Terraform

DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--directory", help="Folder of the Terraform configuration.", show_default="infra/HOST of the project"
    ),
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
    Path | None, typer.Option("--package", help="Deploy the packages in this folder, as `make package` writes them.")
]
TerraformOption = Annotated[
    Path | None, typer.Option("--terraform", help="Path of the terraform program.", show_default="from PATH")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


class Deployment:
    """The deployment on one host, as `infra/HOST` describes it and `cli/deploy/HOST.py` reaches it."""

    def __init__(self, host: str) -> None:
        self.host = host

    def terraform(self, directory: Path | None, program: Path | None) -> Terraform:
        from ..deploy.package import project
        from ..deploy.terraform import Terraform

        folder = directory or project() / "infra" / self.host
        return Terraform(folder.resolve(), [str(program)] if program else None)

    def variables(
        self,
        package: Path | None,
        python: str,
        architecture: str,
        files: Sequence[Path] | None,
        assignments: Sequence[str] | None,
    ) -> list[str]:
        from ..deploy import package as packages

        folder = package or packages.package(self.host, python, architecture, None)
        return packages.variables(folder, files or (), assignments or ())

    def prepare(self, terraform: Terraform, variables: Sequence[str], *, approved: bool) -> None:
        """What the host needs before Terraform applies the whole."""
        if prepare := getattr(self._module(), "prepare", None):
            prepare(terraform, variables, approved=approved)

    def migrate(self, outputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """None if Terraform has done it."""
        self._check(outputs)
        migrate = getattr(self._module(), "migrate", None)
        return migrate(outputs) if migrate else None

    def context(self, outputs: Mapping[str, Any], name: str | None) -> Context:
        self._check(outputs)
        context: Context = self._module().context_of(outputs, name)
        return context

    def _module(self) -> Any:
        return import_module(f"..deploy.{self.host}", __package__)

    def _check(self, outputs: Mapping[str, Any]) -> None:
        if not outputs:
            raise Failure(f"nothing is deployed from this folder; run: noetls deploy {self.host} apply")


def commands(host: str, title: str, *, migrates_by_itself: bool) -> typer.Typer:
    """`migrates_by_itself`: whether Terraform migrates when it applies, so that there is no command for it."""
    app = typer.Typer(help=f"Deploy the engine to {title} with Terraform.", no_args_is_help=True)
    deployment = Deployment(host)

    @app.command()
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
        runner = deployment.terraform(directory, terraform)
        runner.init(backend_config or ())
        runner.plan(deployment.variables(package, python, architecture, var_file, var))

    @app.command()
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

        runner = deployment.terraform(directory, terraform)
        runner.init(backend_config or ())
        variables = deployment.variables(package, python, architecture, var_file, var)
        deployment.prepare(runner, variables, approved=yes)
        runner.apply(variables, approved=yes)
        outputs = runner.outputs()
        deployment.migrate(outputs)
        context = deployment.context(outputs, chosen())
        Contexts().save(context)
        if as_json:
            print_json({"status": "deployed", "context": context.name, **context.public()})
        else:
            echo(f"deployed; to run a playbook: noetls --context {context.name} run PLAYBOOK")

    if not migrates_by_itself:

        @app.command()
        @command
        def migrate(
            directory: DirectoryOption = None, terraform: TerraformOption = None, as_json: JsonOption = False
        ) -> None:
            """Fill the secrets that have no value, migrate the database, and store the deployment as a context.

            apply does that, too; needed after Terraform was applied by itself, and to replace a service token."""
            from ..contexts import Contexts

            outputs = deployment.terraform(directory, terraform).outputs()
            done = deployment.migrate(outputs) or {}
            context = deployment.context(outputs, chosen())
            Contexts().save(context)
            if as_json:
                print_json({"status": "migrated", "context": context.name, **done})
            else:
                echo(f"secrets: {_listed(done.get('secrets'))}; migrations: {_listed(done.get('migrations'))}")

    @app.command()
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
        """Remove everything that apply has created, with the data in it."""
        from ..contexts import Contexts

        runner = deployment.terraform(directory, terraform)
        runner.init(backend_config or ())
        name = chosen() or runner.outputs().get("prefix")
        runner.destroy(deployment.variables(package, python, architecture, var_file, var), approved=yes)
        if name is not None:
            Contexts().remove(str(name))
        if as_json:
            print_json({"status": "destroyed"})
        else:
            echo("destroyed")

    @app.command()
    @command
    def outputs(
        directory: DirectoryOption = None, terraform: TerraformOption = None, as_json: JsonOption = False
    ) -> None:
        """Print Terraform's outputs of the deployment."""
        found = deployment.terraform(directory, terraform).outputs()
        if as_json:
            print_json(found)
        else:
            show(table(("output", "value"), sorted(found.items())))

    @app.command()
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
        from ..deploy.smoke import Check
        from ..deploy.smoke import smoke as try_it

        name = chosen()
        if name:
            context = Contexts().load(name)
        else:
            context = deployment.context(deployment.terraform(directory, terraform).outputs(), None)

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

    return app


def _listed(names: Sequence[str] | None) -> str:
    return ", ".join(names) if names else "none"


app = typer.Typer(help="Deploy the engine to a cloud.", no_args_is_help=True)
app.add_typer(commands("aws", "AWS", migrates_by_itself=True), name="aws")
app.add_typer(commands("gcp", "Google Cloud", migrates_by_itself=False), name="gcp")
