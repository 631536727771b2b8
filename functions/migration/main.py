"""The migration: fills the secrets of a deployment and brings its database to this release."""

from noetl_serverless.hosts.entry import entry_point

function = entry_point("migration")
