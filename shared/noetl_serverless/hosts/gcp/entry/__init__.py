"""What the Functions Framework serves on Cloud Run: one function for each service."""
