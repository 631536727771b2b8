"""Does on its own whatever a function that crashed, or a hint that was lost, has left undone."""
