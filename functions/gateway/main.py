"""The gateway: users' requests, over GraphQL and REST."""

from noetl_serverless.hosts.adapters import platform_of
from noetl_serverless.hosts.assembly.gateway import gateway
from noetl_serverless.hosts.functions_framework_app import serve

service = gateway(platform_of())
function = serve(service.app, close=service.close)
