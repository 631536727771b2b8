"""From request to commit: load, decide, append, notify. Shared by the control plane and the reconciler."""
