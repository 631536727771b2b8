"""The pure core: `evolve(state, event) -> state` and `advance(plan, state, fact) -> (state, decisions)`.

No clock, no chance, no I/O: instants and ids come in with the facts.
"""
