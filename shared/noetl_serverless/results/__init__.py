"""Results: one that is too large for an event is kept in a store, and a small `ResultRef` takes its place."""
