"""The worker: runs the tools of one pool's commands."""

from noetl_serverless.hosts.adapters import platform_of
from noetl_serverless.hosts.assembly.worker import worker
from noetl_serverless.hosts.functions_framework_app import serve
from noetl_serverless.worker.service import make_app

platform = platform_of()
instance, close = worker(platform)
app = make_app(instance, platform.host, invoker=platform.invoker, runs_after_response=platform.runs_after_response)
function = serve(app, on_drain=instance.stop, close=close)
