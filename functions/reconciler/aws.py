"""The reconciler on Lambda."""

import os

from noetl_serverless.hosts.aws.entry.reconciler import ReconcilerHandler

handler = ReconcilerHandler(os.environ)
