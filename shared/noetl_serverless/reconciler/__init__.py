"""Completes what a crashed function or a lost hint has left undone."""
