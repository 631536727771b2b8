"""The reconciler: completes what crashed functions and lost hints have left undone."""

from noetl_serverless.hosts.adapters import platform_of
from noetl_serverless.hosts.assembly.reconciler import reconciler
from noetl_serverless.hosts.functions_framework_app import serve
from noetl_serverless.reconciler.service import create_app

instance, notifications, database, close = reconciler(platform_of())


async def database_answers() -> None:
    await database.run("SELECT 1")


function = serve(create_app(instance, checks={"database": database_answers}, close=notifications.close), close=close)
