"""The worker on Lambda."""

import os

from noetl_serverless.hosts.aws.entry.worker import WorkerHandler

handler = WorkerHandler(os.environ)
