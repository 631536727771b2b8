"""NoETL Serverless: durable YAML playbooks on an engine that is only stateless functions."""

__version__ = "0.1.0"
