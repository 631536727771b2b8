"""`python -m noetl_serverless.packaging HOST`: what `make package` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from ..hosts.table import functions_folder
from .build import build
from .form import packaged_hosts
from .function import MEGABYTE, Package, TooBig
from .install import InstallFailed
from .lock import NotLocked
from .target import Architecture, NoInterpreter, Target, Version


def main() -> int:
    arguments = _arguments()
    project = functions_folder().parent
    target = Target(arguments.python, arguments.architecture)
    try:
        folder = build(
            project,
            arguments.host,
            target,
            arguments.out or project / "dist" / arguments.host,
            only=arguments.only,
            report=_print_package,
        )
    except (NoInterpreter, InstallFailed, NotLocked, TooBig, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(folder)  # noqa: T201
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m noetl_serverless.packaging", description="Zip functions.")
    parser.add_argument("host", choices=packaged_hosts())
    parser.add_argument("--python", choices=get_args(Version), default="3.12")
    parser.add_argument("--architecture", choices=get_args(Architecture), default="x86_64")
    parser.add_argument("--out", type=Path, help="default: dist/<host> in the project")
    parser.add_argument("--only", action="append", default=[], metavar="FUNCTION", help="may be given many times")
    return parser.parse_args()


def _print_package(name: str, package: Package) -> None:
    unzipped, zipped = package.unzipped_bytes / MEGABYTE, package.zip_bytes / MEGABYTE
    print(f"{name:<16}{unzipped:7.1f} MB unpacked{zipped:7.1f} MB zipped", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
