"""Hints and small values: the ports `Notifier` and `KeyValue`, over NATS and in memory."""
