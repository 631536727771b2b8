"""The worker's container image. Its instructions are followed without Docker, with folders in the place of paths."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noetl_serverless.hosts.table import functions_folder, load_functions
from noetl_serverless.packaging.build import build
from noetl_serverless.packaging.lock import Lock
from noetl_serverless.packaging.target import TARGETS, Target

PROJECT = functions_folder().parent
DOCKERFILE = PROJECT / "functions" / "worker" / "Dockerfile"
TASK = "/var/task"


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest), with the defaults of its arguments in their places."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    given = {"LAMBDA_TASK_ROOT": TASK}
    for word, rest in found:
        if word == "ARG":
            name, _, value = rest.partition("=")
            given[name] = value
    return [(word, re.sub(r"\$\{(\w+)\}", lambda name: given[name[1]], rest)) for word, rest in found]


def test_it_is_built_from_a_package_that_is_made_and_for_its_python() -> None:
    steps = instructions()
    target, name = next(rest.split()[0] for word, rest in steps if word == "COPY").rsplit("/", 2)[-2:]
    assert name.removesuffix(".zip") in {spec.name for spec in load_functions(functions_folder(), "aws")}
    made_for = next(one for one in TARGETS if one.name == target)
    images = {rest.split()[0] for word, rest in steps if word == "FROM"}
    assert images == {f"public.ecr.aws/lambda/python:{made_for.python}"}


def test_what_it_installs_beside_the_package_is_pinned_with_hashes() -> None:
    text = (DOCKERFILE.parent / "requirements.txt").read_text()
    wanted = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    locked = Lock(text).closure([re.split(r"[=<>~!\[; ]", line)[0] for line in wanted])
    assert all("==" in one.text and "--hash=sha256:" in one.text for one in locked)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of what the instructions make, of the worker for light tools: the other one is made the same way."""
    root = tmp_path_factory.mktemp("image")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    made = build(PROJECT, "aws", Target(version, "x86_64"), root / "dist", only=["worker"])  # type: ignore[arg-type]
    for folder in ("tmp", "package", TASK[1:]):
        (root / folder).mkdir(parents=True)
    for word, rest in instructions():
        if word == "RUN":
            command = re.sub(r"(?<=[\s\"])/(?=\w)", f"{root}/", rest).replace("python ", f"{sys.executable} ")
            subprocess.run(["sh", "-euc", command], check=True, env={"PATH": "/usr/bin:/bin"})
        elif word == "COPY":
            _copy(root, shlex.split(rest), made / "worker.zip")
    return root


def _copy(root: Path, words: list[str], package: Path) -> None:
    *options, source, target = words
    place = root / target.lstrip("/")
    if options:
        shutil.copytree(root / source.lstrip("/"), place, dirs_exist_ok=True)
    else:
        shutil.copy(package if source.endswith(".zip") else PROJECT / source, place)


def test_its_instructions_give_a_worker_whose_handler_is_where_the_command_says(image: Path) -> None:
    command = dict(instructions())["CMD"]
    module, handler = command.strip('[]"').split(".")
    # it asks who it is before anything else, and here nobody has told it
    code = f"import {module}; {module}.{handler}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=image / TASK[1:],
        env={"NOETL_HOST": "aws"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "NoCredentials" in done.stderr, done.stderr
    assert not (image / "tmp" / "requirements.txt").exists()
