"""A command on its way out and back: the order it was issued with, and the fact that its outcome is."""
