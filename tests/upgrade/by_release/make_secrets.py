"""Run by a release's own Python: make the secrets of a stack."""

import sys
from pathlib import Path

from noetl_serverless.hosts.local.secrets import Secrets

Secrets.load(Path(sys.argv[1]))
