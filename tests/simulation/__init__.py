"""The whole engine on a virtual clock: every run is a function of its seed."""
