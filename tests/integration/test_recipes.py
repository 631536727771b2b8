"""What following each recipe of CONTRIBUTING makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from .recipes import Copy


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_a_tool_kind_is_a_file_a_test_and_a_line(copy: Copy) -> None:
    copy.follow("Add a tool kind")
    assert list(copy.changed()) == [
        "pyproject.toml +1",
        "shared/noetl_serverless/tools/echo.py",
        "tests/unit/tools/test_echo.py",
    ]
    assert "1 passed" in copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/tools/test_echo.py")
    playbook = copy.folder / "site" / "echo.yaml"
    playbook.write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: echo, path: demo/echo}\n"
        "workflow:\n  - {step: say, tool: {kind: echo, value: '{{ workload.x }}'}}\nworkload: {x: 1}\n"
    )
    copy.run("-m", "tests.structure")
    # it ends with a status other than 0 where it knows no such kind
    copy.run("-c", "from noetl_serverless.cli.main import app; app()", "lint", str(playbook))


def test_an_endpoint_is_in_the_document_and_answers(copy: Copy) -> None:
    copy.follow("Add an endpoint")
    assert list(copy.changed()) == [
        "shared/noetl_serverless/control_plane/routes/__init__.py +2",
        "shared/noetl_serverless/control_plane/routes/release.py",
        "tests/integration/control_plane/test_release.py",
    ]
    test = "tests/integration/control_plane/test_release.py"
    assert "1 passed" in copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    assert "`GET /api/release`" in copy.run("-m", "noetl_serverless.control_plane.openapi")
    copy.run("-m", "tests.structure")


def test_a_migration_is_run_once(copy: Copy, postgres_url: str) -> None:
    copy.follow("Add a migration")
    (added,) = copy.changed()
    name = Path(added).stem
    code = f"from noetl_serverless.store.migrate import migrate; print(migrate({postgres_url!r})[-1:])"
    assert copy.run("-c", code).strip() == f"['{name}']"
    assert copy.run("-c", code).strip() == "[]"
