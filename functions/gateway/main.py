"""The gateway: users' requests, over GraphQL and REST."""

from noetl_serverless.hosts.entry import entry_point

function = entry_point("gateway")
