"""What `rerun` says of a run that is not the recorded one."""

from __future__ import annotations

from noetl_serverless.cli.commands.capsule import _divergence_text


def test_an_entry_that_is_there_on_both_sides_is_not_shown_as_if_it_were_two() -> None:
    text = _divergence_text("a#1", "a#1")
    assert (text.count("a#1"), "noetls diff" in text) == (1, True), text
    assert _divergence_text("a#1", "b#1") == "the first difference is a#1, now b#1"
    assert _divergence_text("a#1", None) == "the first difference is a#1, now the end"
