"""Commands: what a worker receives to run one, and its outcome as a fact."""
