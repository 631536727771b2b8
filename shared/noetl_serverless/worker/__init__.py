"""The worker: takes commands, runs their tools, reports what became of them; an ordinary package, no cloud in sight."""
