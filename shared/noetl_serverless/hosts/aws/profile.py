"""The account of a user's own machine: keys, region and endpoints where boto3 looks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .account import Account, Credentials, NoCredentials, endpoints_of

INSTALL = "pip install 'noetl-serverless[aws]'"


async def _current(found: Any) -> Credentials:
    # it may have to ask a service for new ones
    keys = await asyncio.to_thread(found.get_frozen_credentials)
    return Credentials(keys.access_key, keys.secret_key, keys.token or "")


def account_of(environ: Mapping[str, str]) -> Account:
    """From the environment, or else from profiles, SSO, the instance and the like, as botocore finds them; it is only
    imported then, and reads the environment of the process. Raises NoCredentials."""
    if "AWS_ACCESS_KEY_ID" in environ and "AWS_SECRET_ACCESS_KEY" in environ and "AWS_PROFILE" not in environ:
        return Account.of(environ)
    try:
        from botocore.configprovider import ConfiguredEndpointProvider
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        raise NoCredentials(
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set; profiles and other ways of AWS to sign in need "
            f"boto3: {INSTALL}"
        ) from None
    try:
        session = Session()
        found = session.get_credentials()
        if found is None:
            raise NoCredentials("no credentials of AWS were found: set AWS_ACCESS_KEY_ID, AWS_PROFILE or sign in")
        keys = found.get_frozen_credentials()
        region = session.get_config_variable("region") or environ.get("AWS_REGION") or "us-east-1"
        configured = ConfiguredEndpointProvider(
            session.full_config, session.get_scoped_config(), "s3", environ
        ).provide()
    except BotoCoreError as error:
        raise NoCredentials(f"the credentials of AWS cannot be read: {error}") from error
    endpoints = endpoints_of(environ)
    if configured:
        endpoints["s3"] = configured.rstrip("/")
    return Account(
        region,
        Credentials(keys.access_key, keys.secret_key, keys.token or ""),
        endpoints,
        renew=lambda: _current(found),
    )
