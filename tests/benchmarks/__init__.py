"""Measurements of the whole stack, and of what it stands on. `python -m tests.benchmarks --help`."""
