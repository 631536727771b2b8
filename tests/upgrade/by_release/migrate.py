"""Run by a release's own Python: bring a database to that release's schema."""

import sys

from noetl_serverless.store.migrate import migrate

migrate(sys.argv[1])
