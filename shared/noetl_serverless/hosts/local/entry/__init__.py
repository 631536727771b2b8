"""What the Functions Framework serves on a laptop."""
