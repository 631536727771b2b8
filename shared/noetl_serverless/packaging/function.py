"""One function's package: our modules that it can reach, and the distributions that these import.

What form it has, its host says in hosts/HOST/__init__.py: compiled, with the distributions in it, or as source, with a
requirements.txt that the cloud installs.
"""

from __future__ import annotations

import base64
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from ..hosts.entry import entry_module, host_names
from ..hosts.table import FunctionSpec, load_functions, load_pools
from . import archive
from .bytecode import compile_folder
from .closure import PACKAGE, Closure, Importer
from .form import SUFFIXES, package_form
from .install import install
from .lock import Lock, normal, requirements
from .target import Target, interpreter
from .trim import trim

# as Lambda counts: its limit of "250 MB" is 262,144,000 bytes
MEGABYTE = 2**20
TOOLS = f"{PACKAGE}.tools"
# code that no function runs
_EXCLUDED = ("cli", "packaging")
# distributions that an import, or code of users, needs without naming them. Where the system has no time zones, as in
# Lambda, the standard library reads them from tzdata
_IMPLICIT_DISTRIBUTIONS = {
    "zoneinfo": ("tzdata",),
    f"{TOOLS}.python_child": ("tzdata",),
    f"{PACKAGE}.telemetry.metrics": ("prometheus_client",),
    f"{PACKAGE}.hosts.http.framework": ("functions_framework", "httptools", "uvloop"),
}
# a program of its own: no import names it
_ZYGOTE = f"{TOOLS}.python_zygote"


class TooBig(ValueError):
    """A package is larger than its row in functions.yaml allows."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Package:
    file: str
    sha256: str
    base64sha256: str
    zip_bytes: int
    unzipped_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Packager:
    def __init__(self, project: Path, host: str, target: Target) -> None:
        """`project`: the folder with pyproject.toml, functions/ and shared/."""
        self._project = project
        self._host = host
        self._target = target
        self._pyproject: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        self._lock = Lock((project / "requirements-dev.txt").read_text(encoding="utf-8"))
        self._pools = load_pools(project / "functions")
        self._form = package_form(host)
        excluded = (*_EXCLUDED, *(f"hosts.{other}" for other in host_names() if other != host))
        self._importer = Importer(project / "shared", [f"{PACKAGE}.{name}" for name in excluded])

    def build(self, spec: FunctionSpec, out: Path) -> Package:
        """Build `out/<name>.zip`, or what the form is called. Raises TooBig, InstallFailed, NotLocked and
        NoInterpreter."""
        entry = self._entry(spec)
        closure = self.closure(spec)
        folder = out / "build" / spec.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        locked = self._lock.closure(self.distributions(closure, spec.extras))
        if self._form == "compiled":
            python = interpreter(self._target.python)
            install(locked, self._target, folder)
            trim(folder)
            compile_folder(folder, python, without_docstrings=True)
            self._copy_ours(closure, entry, folder)
            compile_folder(folder, python, keep={entry.name})
        else:
            (folder / "requirements.txt").write_text(requirements(locked), encoding="utf-8")
            self._copy_ours(closure, entry, folder)
        size = archive.size(folder)
        if size > spec.package_mb * MEGABYTE:
            raise TooBig(f"{spec.name} takes {size / MEGABYTE:.1f} MB unpacked; {spec.package_mb} MB is the limit")
        path = out / f"{spec.name}{SUFFIXES[self._form]}"
        archive.write(folder, path)
        digest = archive.digest(path)
        return Package(
            file=path.name,
            sha256=digest.hex(),
            base64sha256=base64.b64encode(digest).decode(),
            zip_bytes=path.stat().st_size,
            unzipped_bytes=size,
        )

    def distributions(self, closure: Closure, extras: Sequence[str]) -> list[str]:
        """Names of the distributions that the closure imports, limited to those that are declared for the function."""
        project = self._pyproject["project"]
        optional = project["optional-dependencies"]
        allowed = {
            _name(requirement)
            for requirement in (
                *project["dependencies"],
                *(distribution for extra in (self._host, *extras) for distribution in optional.get(extra, ())),
            )
        }
        known = packages_distributions()
        unnamed = {
            distribution
            for name in (*closure.others, *closure.modules)
            for distribution in _IMPLICIT_DISTRIBUTIONS.get(name, ())
        }
        imported = {normal(name) for top in closure.others | unnamed for name in known.get(top, ())}
        return sorted(imported & allowed)

    def closure(self, spec: FunctionSpec) -> Closure:
        closure = self._importer.of_script(self._entry(spec).read_text(encoding="utf-8"))
        # found by the name of the host: no import names it
        _add(closure, self._importer.of_modules([entry_module(self._host, spec.source)], lazily=True))
        if f"{TOOLS}.registry" in closure.modules:
            # tools are found by entry point: no import names them
            run, read = self._tools(spec)
            _add(closure, self._importer.of_modules(run, lazily=True))
            _add(closure, self._importer.of_modules(read, lazily=False))
        if f"{TOOLS}.python_forks" in closure.modules:
            _add(closure, self._importer.of_modules([_ZYGOTE], lazily=True))
        return closure

    def _tools(self, spec: FunctionSpec) -> tuple[list[str], list[str]]:
        """The modules of the tools that the function runs, and of the tools whose configs it only reads."""
        modules = {kind: value.partition(":")[0] for kind, value in self._entry_points().items()}
        run = {kind for kind in modules if spec.pool is not None and self._runs(spec, self._pools.get(kind))}
        return [modules[kind] for kind in sorted(run)], [modules[kind] for kind in sorted(modules.keys() - run)]

    def _runs(self, spec: FunctionSpec, pool: str | None) -> bool:
        """Whether the function may run kinds that have a pool of their own: steps may name another whose workers have
        the same libraries."""
        if pool in (None, spec.pool):
            return True
        homes = [other for other in load_functions(self._project / "functions", self._host) if other.pool == pool]
        return any(set(home.extras) <= set(spec.extras) for home in homes)

    def _entry(self, spec: FunctionSpec) -> Path:
        return self._project / "functions" / spec.source / "main.py"

    def _entry_points(self) -> dict[str, str]:
        points: dict[str, str] = self._pyproject["project"]["entry-points"][TOOLS]
        return points

    def _copy_ours(self, closure: Closure, entry: Path, folder: Path) -> None:
        shutil.copyfile(entry, folder / entry.name)
        root = self._project / "shared"
        packages = set()
        for module in sorted(closure.modules):
            path = self._importer.path(module)
            assert path is not None
            _copy(path, folder / path.relative_to(root))
            packages.add(path.parent)
        for pattern in self._pyproject["tool"]["setuptools"]["package-data"][PACKAGE]:
            for path in sorted((root / PACKAGE).glob(pattern)):
                # data is in its package, or in a folder below it that is not a package
                if path.name != "py.typed" and (path.parent in packages or path.parent.parent in packages):
                    _copy(path, folder / path.relative_to(root))
        self._write_metadata(folder, with_tools=f"{TOOLS}.registry" in closure.modules)

    def _write_metadata(self, folder: Path, *, with_tools: bool) -> None:
        project = self._pyproject["project"]
        info = folder / f"{PACKAGE}-{project['version']}.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(text, encoding="utf-8")
        if with_tools:
            lines = [f"{name} = {value}\n" for name, value in sorted(self._entry_points().items())]
            (info / "entry_points.txt").write_text(f"[{TOOLS}]\n{''.join(lines)}", encoding="utf-8")


def _add(closure: Closure, more: Closure) -> None:
    closure.modules |= more.modules
    closure.others |= more.others


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _name(requirement: str) -> str:
    name = requirement
    for mark in "[<>=!~; ":
        name = name.partition(mark)[0]
    return normal(name)
