"""What clouds share: settings with secrets, the secrets and database of a new deployment, HTTP to their APIs."""
