"""What Cloud Run's build makes of a package: the unpacked source, and an environment with its requirements."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from noetl_serverless.packaging.pip_config import PIP, UnsupportedByUv, uv_pip
from noetl_serverless.packaging.target import NoInterpreter, interpreter

from ..errors import NotFound
from ..messages import Message
from ..object_store import ObjectStore

_BASE_IMAGE = re.compile(r"python(3)(\d+)$")
# of the variables that a build may have, those that the stand-in knows what to do with
_VARIABLES = ("FUNCTION_USE_ASGI",)


class BuildFailed(Exception):
    """The source is not there, is no function's, or its requirements cannot be installed."""


@dataclass(frozen=True, slots=True)
class Image:
    """`environment`: variables that the build leaves in it."""

    folder: Path
    python: Path
    environment: Mapping[str, str]


class Images:
    """`home`: where sources are unpacked, by their content; `tools`: where environments are kept, by their
    requirements."""

    def __init__(self, store: ObjectStore, home: Path, tools: Path) -> None:
        self._store = store
        self._home = home
        self._tools = tools

    async def build(self, request: Message) -> Image:
        """Of a SubmitBuildRequest. Raises BuildFailed."""
        source, buildpack = request.storage_source, request.buildpack_build
        for name in buildpack.environment_variables:
            if name not in _VARIABLES:
                raise BuildFailed(f"The stand-in's build does not know the variable {name}.")
        generation = str(source.generation) if source.generation else None
        try:
            archive = await self._store.content(source.bucket, source.object_, generation)
        except NotFound as error:
            raise BuildFailed(str(error)) from None
        python = _interpreter(buildpack.base_image)
        folder = await asyncio.to_thread(self._unpack, archive)
        environment = await asyncio.to_thread(self._install, python, folder / "requirements.txt")
        return Image(
            folder,
            environment / "bin" / "python",
            {"FUNCTION_TARGET": buildpack.function_target, **buildpack.environment_variables},
        )

    def _unpack(self, archive: bytes) -> Path:
        folder = self._home / hashlib.sha256(archive).hexdigest()[:16]
        if not folder.exists():
            making = folder.with_name(f".{folder.name}")
            shutil.rmtree(making, ignore_errors=True)
            try:
                with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as source:
                    source.extractall(making, filter="data")
            except tarfile.TarError as error:
                raise BuildFailed(f"The source is not a gzipped archive: {error}") from None
            making.rename(folder)
        for name in ("main.py", "requirements.txt"):
            if not (folder / name).is_file():
                raise BuildFailed(f"The source has no {name}.")
        return folder

    def _install(self, python: Path, requirements: Path) -> Path:
        """An environment that has them, made once."""
        digest = hashlib.sha256(requirements.read_bytes() + str(python).encode()).hexdigest()[:16]
        folder = self._tools / digest
        self._tools.mkdir(parents=True, exist_ok=True)
        with open(self._tools / f".{digest}.lock", "w") as alone:
            fcntl.flock(alone, fcntl.LOCK_EX)
            if not folder.exists():
                making = self._tools / f".{digest}-{os.getpid()}"
                try:
                    _make_environment(python, making, requirements)
                    making.rename(folder)
                finally:
                    shutil.rmtree(making, ignore_errors=True)
        return folder


def _interpreter(base_image: str) -> Path:
    """That of the base image, or this one. BuildFailed if it is not on this machine."""
    found = _BASE_IMAGE.search(base_image)
    if found is None:
        if base_image:
            raise BuildFailed(f"The stand-in builds on images of Python only, not on {base_image!r}.")
        return Path(sys.executable)
    try:
        return interpreter(f"{found[1]}.{found[2]}")
    except NoInterpreter as error:
        raise BuildFailed(str(error)) from None


def _make_environment(python: Path, folder: Path, requirements: Path) -> None:
    done = subprocess.run(
        [str(python), "-m", "venv", "--without-pip", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        done = _pip_install(str(folder / "bin" / "python"), requirements)
    if done.returncode:
        raise BuildFailed(f"pip install failed: {(done.stdout + done.stderr).strip()[-2000:]}")


def _pip_install(python: str, requirements: Path) -> subprocess.CompletedProcess[str]:
    """As the buildpack does: with hashes, nothing may be missing among the requirements."""
    given = ["--quiet", "--require-hashes", "--requirement", str(requirements)]
    if importlib.util.find_spec("uv"):
        with suppress(UnsupportedByUv):
            return uv_pip("install", "--python", python, *given)
    return subprocess.run([*PIP, "--python", python, "install", *given], capture_output=True, text=True, check=False)
