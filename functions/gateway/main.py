"""The gateway: users' requests, over GraphQL and REST. It holds no database connection."""

from noetl_serverless.bus.nats_key_value import NatsKeyValue
from noetl_serverless.gateway.app import create_app
from noetl_serverless.hosts.functions_framework_app import serve
from noetl_serverless.settings import Settings
from noetl_serverless.telemetry import logs

settings = Settings.from_environment()
logs.setup("gateway", settings.log_level)
sessions = NatsKeyValue(settings.nats_url, ttl=settings.session_ttl)
function = serve(create_app(settings, keyvalue=sessions), close=(sessions.close,))
