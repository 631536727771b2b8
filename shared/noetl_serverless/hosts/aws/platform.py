"""The adapters of a Lambda function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...ports import SecretStore
from ...settings import Settings
from ..cloud.configuration import settings_with_secrets
from ..cloud.database import database_url_of as secret_or_plain_url
from ..cloud.secrets import CachedSecrets
from ..platform import Platform
from .account import Account
from .api import Api
from .database import IamDatabaseUrl
from .host import LambdaHost
from .invoker import SqsInvoker
from .loop import event_loop, run
from .results import S3ResultStore
from .secrets import SecretsManagerVault

if TYPE_CHECKING:
    import aiohttp

# prefix of the control plane's URL if it is invoked directly: lambda://function:qualifier
DIRECTLY = "lambda://"

Session = Callable[[Api, str], "aiohttp.ClientSession"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsPlatform(Platform):
    """A platform whose parts have the types that the handlers need."""

    host: LambdaHost
    invoker: SqsInvoker
    api: Api
    runs_after_response: bool = False
    # EventBridge's schedules have a resolution of one minute
    timer_function: str | None = "reconciler"


def aws_platform(environ: Mapping[str, str], session: Session | None = None) -> AwsPlatform:
    """Reads the function's secrets. `session` is for a function that may call the control plane directly.

    Raises MissingSecret, AwsError, Unavailable.
    """
    account = Account.of(environ)
    api = Api(account)
    vault = SecretsManagerVault(api)
    store = CachedSecrets(vault, Settings.from_environment(environ).secrets)
    settings = run(settings_with_secrets(environ, store))
    url = settings.control_plane_url
    directly = url.startswith(DIRECTLY)
    return AwsPlatform(
        settings=replace(settings, control_plane_url="http://control-plane") if directly else settings,
        host=LambdaHost(),
        invoker=SqsInvoker(api, settings.function_urls, per_invocation=settings.max_in_flight),
        # not cached: the password may have changed by the next connection
        database_url=database_url_of(settings, account, CachedSecrets(vault, settings.secrets, ttl=0.0)),
        results=lambda: S3ResultStore(api, settings.result_url),
        objects=lambda url: S3ResultStore(api, url),
        connect=(lambda: session(api, url)) if directly and session else None,
        trigger_sources=frozenset({"s3", "sqs"}),
        api=api,
    )


def database_url_of(settings: Settings, account: Account, store: SecretStore) -> str | Callable[[], str]:
    if settings.database_auth == "iam":
        return IamDatabaseUrl(settings.database_url, account)
    return secret_or_plain_url(settings, store, event_loop())
