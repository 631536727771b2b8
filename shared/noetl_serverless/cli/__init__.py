"""The command line, `noetls`. Nothing is imported here: a command imports what it needs."""
