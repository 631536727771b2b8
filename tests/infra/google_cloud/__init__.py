"""Stand-ins for the parts of Google Cloud that the deployment uses: one process behind Google's own REST paths."""
