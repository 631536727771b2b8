"""Zips of the functions for a cloud: from the same input the same bytes, and in each only what its function needs."""
