"""The credentials, the region and the endpoints of AWS requests, from the environment that Lambda sets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

_SPECIFIC = "AWS_ENDPOINT_URL_"


class NoCredentials(ValueError):
    """The environment holds no credentials of AWS."""


@dataclass(frozen=True, slots=True)
class Credentials:
    key_id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    region: str
    credentials: Credentials
    # service -> URL, and "" for all others: an emulator, or a private endpoint
    endpoints: Mapping[str, str] = field(default_factory=dict)
    # for credentials that end while the process lives
    renew: Callable[[], Awaitable[Credentials]] | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Account:
        """Raises NoCredentials."""
        try:
            credentials = Credentials(
                environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], environ.get("AWS_SESSION_TOKEN", "")
            )
        except KeyError as error:
            raise NoCredentials(f"{error.args[0]} is not set; Lambda sets it for the function's role") from None
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return cls(region, credentials, endpoints_of(environ))

    async def current_credentials(self) -> Credentials:
        return self.credentials if self.renew is None else await self.renew()

    def endpoint(self, service: str) -> str:
        return self.custom_endpoint(service) or f"https://{service}.{self.region}.{self.domain}"

    def custom_endpoint(self, service: str) -> str | None:
        return self.endpoints.get(service) or self.endpoints.get("")

    @property
    def domain(self) -> str:
        return "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"


def endpoints_of(environ: Mapping[str, str]) -> dict[str, str]:
    endpoints = {
        name.removeprefix(_SPECIFIC).lower().replace("_", ""): url.rstrip("/")
        for name, url in environ.items()
        if name.startswith(_SPECIFIC)
    }
    if url := environ.get("AWS_ENDPOINT_URL"):
        endpoints[""] = url.rstrip("/")
    return endpoints
