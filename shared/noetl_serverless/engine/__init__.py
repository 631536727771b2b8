"""The pure core: `evolve(state, event) -> state` and `advance(plan, state, fact) -> (state, decisions)`.

No clock, no randomness, no I/O: instants and ids come with the facts.
"""
