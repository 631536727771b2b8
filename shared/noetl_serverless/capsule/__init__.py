"""One execution in a file: its log, its playbook, its children, its results, to be replayed anywhere."""
