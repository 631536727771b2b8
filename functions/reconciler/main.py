"""The reconciler: completes what crashed functions and lost hints have left undone."""

from noetl_serverless.hosts.entry import entry_point

function = entry_point("reconciler")
