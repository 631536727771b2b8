"""The worker: runs the tools of one pool's commands."""

from noetl_serverless.hosts.entry import entry_point

function = entry_point("worker")
