"""A configuration as parameters of calls to AWS."""

from __future__ import annotations

from typing import Any

from .. import given

# words whose spelling in AWS's API is not that of a name in camel case
_SPELLED = {
    "az": "AZ",
    "ca": "CA",
    "db": "DB",
    "dns": "Dns",
    "iam": "IAM",
    "tls": "TLS",
    "url": "Url",
}


class Given(given.Given):
    def pick(self, *names: str, **renamed: str) -> dict[str, Any]:
        """Parameters of a call: `name` as the API's `Name`, `name=Other` as `Other`; without what is not set."""
        parameters = {api_name(name): self[name] for name in names}
        parameters |= {parameter: self[name] for name, parameter in renamed.items()}
        return {name: value for name, value in parameters.items() if value is not None}


def api_name(name: str) -> str:
    return "".join(_SPELLED.get(word, word.capitalize()) for word in name.split("_"))
