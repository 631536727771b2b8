from __future__ import annotations

import ast
from pathlib import Path


def test_the_oracle_shares_no_code_with_the_engine() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            strange = [name for name in names if name.split(".")[0] in ("noetl_serverless", "tests")]
            assert not strange, f"{path.name} imports {strange}"
