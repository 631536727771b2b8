"""The control plane: the only function that decides."""

from noetl_serverless.hosts.entry import entry_point

function = entry_point("control_plane")
