"""Writes playbooks/REFERENCE.md: `make reference`."""

from __future__ import annotations

from .page import FILE, Page

FILE.write_text(Page().text())
