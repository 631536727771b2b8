"""Cloud Run: services built from source, their revisions and instances, and what stands in front of them."""
