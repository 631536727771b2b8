"""The real stack under work and faults, each at random from a seed, and the audit of what came of it."""
