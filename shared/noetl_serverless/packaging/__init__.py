"""Zips of the functions for a cloud: the same input gives the same bytes, and each has only what its function needs."""
