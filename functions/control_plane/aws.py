"""The control plane on Lambda."""

import os

from noetl_serverless.hosts.aws.entry.control_plane import ControlPlaneHandler

handler = ControlPlaneHandler(os.environ)
