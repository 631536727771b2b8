"""For tests, also those of users: every port in memory, and `run_playbook`. See playbooks/TESTING.md."""
