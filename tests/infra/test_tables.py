"""The generated part of infra/aws/README.md."""

from __future__ import annotations

from infra.tools.tables import README, with_tables


def test_tables_say_what_the_module_says() -> None:
    text = README.read_text()
    assert with_tables(text) == text, "run `make infra-docs`"
