"""Two releases over one store: what the older one wrote, both work on, either alone can go on with."""
