from __future__ import annotations

import subprocess
import sys

WITHOUT_LIBRARY = """
import sys
sys.modules["prometheus_client"] = None
from noetl_serverless.errors import NotFound
from noetl_serverless.telemetry import metrics
metrics.outcomes.labels("accepted").inc()
metrics.commands_in_flight.set(3)
metrics.http_seconds.labels("/", "GET", 200).observe(0.1)
with metrics.commit_seconds.time():
    pass
try:
    metrics.render()
except NotFound as problem:
    print(problem.detail)
"""


def test_without_the_library_nothing_is_counted_and_that_is_reported() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBRARY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "metrics are not available: prometheus-client is not installed\n"
