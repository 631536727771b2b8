"""Tools: one module per kind, each behind the port in `port`."""
