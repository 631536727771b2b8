"""The control plane: the only function that decides."""

from noetl_serverless.hosts.adapters import platform_of
from noetl_serverless.hosts.assembly.control_plane import control_plane
from noetl_serverless.hosts.functions_framework_app import serve

service = control_plane(platform_of())
function = serve(service.app, close=service.close)
