"""One execution in a file, with its log, playbook, children and results, to be replayed anywhere."""
