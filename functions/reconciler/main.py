"""The reconciler: does whatever crashed functions and lost hints have left undone."""

from noetl_serverless.bus.nats import NatsNotifier
from noetl_serverless.hosts.adapters import invoker_of
from noetl_serverless.hosts.functions_framework_app import serve
from noetl_serverless.ledger.doorbell import Doorbell
from noetl_serverless.ledger.ledger import Ledger
from noetl_serverless.ledger.playbooks import Playbooks
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.reconciler.service import create_app
from noetl_serverless.settings import Settings
from noetl_serverless.store.catalog import Catalog
from noetl_serverless.store.connection import Database
from noetl_serverless.store.log import Log
from noetl_serverless.store.schedules import Schedules
from noetl_serverless.telemetry import logs

settings = Settings.from_environment()
logs.setup("reconciler", settings.log_level)
database = Database(settings.database_url, settings.database_connections)
notifier = NatsNotifier(settings.nats_url)
invoker = invoker_of(settings)
doorbell = Doorbell(notifier if settings.notify else None, invoker)
log = Log(database)
ledger = Ledger(log, Playbooks(Catalog(database)), doorbell)
reconciler = Reconciler(log, ledger, Schedules(database), doorbell, max_deliveries=settings.max_deliveries)


async def database_answers() -> None:
    await database.run("SELECT 1")


function = serve(
    create_app(reconciler, checks={"database": database_answers}, close=doorbell.close),
    close=(invoker.close, notifier.close, database.close),
)
