"""The services, put together from what a host gives them: the same on every host."""
