"""A project of two functions, one of which its tests look at closely."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .run import Wanted
from .tree import Layout

SOURCES = {
    "shared/toy/__init__.py": "",
    "shared/toy/worker/__init__.py": "",
    "shared/toy/worker/limits.py": "LIMIT = 3\n",
    "shared/toy/worker/counting.py": (
        "from toy.worker.limits import LIMIT\n"
        "\n"
        "\n"
        "def may_claim(held: int) -> bool:\n"
        "    return held < LIMIT\n"
        "\n"
        "\n"
        "def fence_holds(fence: int, known: int) -> bool:\n"
        "    return fence >= known\n"
        "\n"
        "\n"
        "def countdown(left: int) -> int:\n"
        "    while left > 0:\n"
        "        left -= 1\n"
        "    return left\n"
        "\n"
        "\n"
        "def nobody_calls() -> int:\n"
        "    return 1\n"
    ),
    "shared/toy/worker/query.sql": "SELECT 1 WHERE true\n",
    "tests/unit/worker/test_counting.py": (
        "from pathlib import Path\n"
        "\n"
        "import toy.worker\n"
        "from toy.worker.counting import countdown, fence_holds, may_claim\n"
        "\n"
        "\n"
        "def test_claims_end_at_the_limit():\n"
        "    assert may_claim(2) and not may_claim(3)\n"
        "\n"
        "\n"
        "def test_a_newer_fence_holds():\n"
        "    assert fence_holds(2, 1)\n"
        "\n"
        "\n"
        "def test_a_countdown_ends():\n"
        "    assert countdown(3) == 0\n"
        "\n"
        "\n"
        "def test_the_query():\n"
        "    assert 'true' in Path(toy.worker.__file__).with_name('query.sql').read_text()\n"
    ),
    # imports what others look at, and looks at nothing
    "tests/unit/worker/test_lazily.py": (
        "def test_it_can_be_imported():\n    import toy.worker.limits\n\n    assert toy.worker.limits\n"
    ),
    "tests/unit/worker/test_broken.py": (
        "from toy.worker.counting import fence_holds\n"
        "\n"
        "\n"
        "def test_that_fails_anyway():\n"
        "    assert not fence_holds(1, 1)\n"
    ),
}

# nobody looks
BLIND = ("tests/nowhere",)

WANTED = Wanted(jobs=1, tests=("tests",), generated=100, patience=1.0)


def toy(root: Path) -> Layout:
    root.mkdir()
    for name, text in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "toy"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    return Layout(root, package="shared/toy", preloaded=())
