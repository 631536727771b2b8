"""The control plane: the only function that decides."""

from noetl_serverless.bus.nats import NatsNotifier
from noetl_serverless.control_plane.app import create_app
from noetl_serverless.control_plane.wakeups import Wakeups
from noetl_serverless.hosts.adapters import invoker_of
from noetl_serverless.hosts.functions_framework_app import serve
from noetl_serverless.ledger.doorbell import Doorbell
from noetl_serverless.ledger.ledger import Ledger
from noetl_serverless.ledger.playbooks import Playbooks
from noetl_serverless.settings import Settings
from noetl_serverless.store.catalog import Catalog
from noetl_serverless.store.connection import Database
from noetl_serverless.store.log import Log
from noetl_serverless.telemetry import logs

settings = Settings.from_environment()
logs.setup("control_plane", settings.log_level)
database = Database(settings.database_url, settings.database_connections)
catalog = Catalog(database)
notifier = NatsNotifier(settings.nats_url)
invoker = invoker_of(settings)
# without notifications the reconciler alone finds what waits
doorbell = Doorbell(notifier, invoker) if settings.notify else Doorbell(None, None)
wakeups = Wakeups()
ledger = Ledger(Log(database), Playbooks(catalog), doorbell, on_commit=wakeups.wake)
function = serve(
    create_app(settings, database=database, ledger=ledger, catalog=catalog, wakeups=wakeups),
    close=(doorbell.close, invoker.close, notifier.close, database.close),
)
