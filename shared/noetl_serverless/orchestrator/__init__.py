"""From request to commit: load, decide, append, tell. What the control plane and the reconciler share."""
