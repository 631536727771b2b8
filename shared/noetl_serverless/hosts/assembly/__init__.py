"""Assembles the services from what a host provides, in the same way on every host."""
