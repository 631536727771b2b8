from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ...assembly.service import Service
from ...http.framework import Function
from ...http.reconciler import service
from ...platform import Platform
from ..object_events import written_object
from ..platform import GcpPlatform
from ..results import gcs_results
from ..serving import cloud_run_function
from ..subscription_messages import SubscriptionSource

FUNCTION = "reconciler"


def entry_point(environ: Mapping[str, str]) -> Function:
    return cloud_run_function(environ, _service, gcs_results)


def _service(platform: Platform) -> Service:
    assert isinstance(platform, GcpPlatform)
    # the next tick is up to a minute away
    another = partial(platform.invoker.invoke, FUNCTION)
    # Cloud Storage tells of objects, over Pub/Sub
    return service(platform, another, written_object, {"pubsub": SubscriptionSource(platform.api)})
