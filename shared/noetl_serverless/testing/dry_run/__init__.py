"""Dry runs: a playbook is decided without calling a tool, and what depends on a tool's result stays unknown.

`explore.py` follows every branch; `path.py` plays one path.
"""
