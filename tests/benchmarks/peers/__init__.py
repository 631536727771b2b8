"""Other engines and this one, side by side on one machine."""
