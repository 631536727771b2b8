"""Results: what is too big for an event stands in a store, and a small `ResultRef` goes in its place."""
