"""The gateway on Lambda."""

import os

from noetl_serverless.hosts.aws.entry.gateway import gateway_handler

handler = gateway_handler(os.environ)
