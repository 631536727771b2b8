"""The services as HTTP functions, for hosts whose functions are HTTP servers: a laptop, Google Cloud."""
