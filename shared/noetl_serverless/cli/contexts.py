"""Deployments that this user knows: URLs and tokens, each in a file that only its owner may read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

from .client import Client
from .failure import WrongUse

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
LAMBDA_SCHEME = "lambda://"


@dataclass(frozen=True, slots=True)
class Context:
    """`url` is that of the control plane, or `lambda://function:alias`. `gateway_url` is the URL for users, if known;
    `service_account`, of Google, the one that requests come from."""

    name: str
    url: str
    token: str
    _: KW_ONLY
    gateway_url: str = ""
    region: str = ""
    endpoint_url: str = ""
    service_account: str = ""

    def client(self) -> Client:
        if self.url.startswith(LAMBDA_SCHEME):
            from .lambda_client import LambdaClient

            return LambdaClient(self.url, self.token, self.region or None, self.endpoint_url or None)
        if self.service_account:
            from .google_client import GoogleClient, Operator
            from .google_user import GoogleUser

            return GoogleClient(
                self.url, self.token, Operator(self.service_account, GoogleUser(self.endpoint_url or None))
            )
        return Client(self.url, self.token)

    def public(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "token" and value}


class Contexts:
    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or _default_folder()

    def load(self, name: str) -> Context:
        """WrongUse if there is none of that name, or its file is damaged."""
        path = self._path(name)
        try:
            values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return Context(**{**values, "name": name})
        except FileNotFoundError:
            known = ", ".join(self.names()) or "none"
            raise WrongUse(
                f"context {name!r} does not exist; known contexts: {known}. See noetls context add --help"
            ) from None
        except (ValueError, TypeError) as error:
            raise WrongUse(f"{path} is damaged: {error}") from error

    def save(self, context: Context) -> Path:
        path = self._path(context.name)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".part")
        temporary.unlink(missing_ok=True)
        # created with mode 0600, so that others cannot read it at any moment
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({key: value for key, value in asdict(context).items() if key != "name"}, file, indent=2)
        os.replace(temporary, path)
        return path

    def remove(self, name: str) -> bool:
        """False if there was none."""
        path = self._path(name)
        existed = path.exists()
        path.unlink(missing_ok=True)
        return existed

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise WrongUse(f"a context's name is up to 63 letters, digits, '.', '_' or '-', not {name!r}")
        return self._folder / f"{name}.json"


def _default_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("noetl-serverless", appauthor=False)) / "contexts"
