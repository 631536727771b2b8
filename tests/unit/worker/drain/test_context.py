from __future__ import annotations

from noetl_serverless.worker.drain.context import Requests


def test_what_was_requested_is_taken_once() -> None:
    requests = Requests()
    assert (requests.take_notified(), requests.take_sweep()) == (False, False)
    requests.notified = requests.sweep = True
    assert (requests.take_notified(), requests.take_notified()) == (True, False)
    assert (requests.take_sweep(), requests.take_sweep()) == (True, False)
