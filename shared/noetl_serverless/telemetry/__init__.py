"""Logs, metrics, probes and what every HTTP service does around a request."""
