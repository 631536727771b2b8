"""Stores of secrets as the mock API serves them: Google's token endpoint and Secret Manager, and AWS Secrets Manager.

Who asks is checked as there: an assertion that the service account signs, a token that was given for it, a request that
is signed with the keys of a user.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

PROJECT = "shop"
CLIENT_EMAIL = f"reader@{PROJECT}.example"
AWS_KEYS = {"access_key_id": "AKIAMOCK", "secret_access_key": "aws+s3cret/key", "region": "eu-test-1"}
# of Google: name -> the versions of the secret, from the first; `pin-X` is there for any X
SECRETS = {"phrase": ("f1rst-phrase", "last-phrase"), "pin": ("p1n-of-google",)}
_PIN = "pin"
# of AWS: name -> the secret
AWS_SECRETS = {"shop/phrase": "aws-phrase", "shop/login": json.dumps({"user": "ann", "pin": "p1n-of-aws"})}
# of tokens, in seconds
LIFETIME = 3600
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_VERSION = re.compile(r"projects/([^/]+)/secrets/([^/]+)/versions/([^/]+):access")
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\S+, SignedHeaders=(\S+), Signature=([0-9a-f]{64})")

# the status and the body of an answer
Found = tuple[int, dict[str, Any]]


class SecretStores:
    def __init__(self, count: Callable[[str], int]) -> None:
        """`count` is told the key of each secret and token that is given: how many have been, this one included."""
        self._count = count
        self._lock = threading.Lock()
        self._access_tokens: set[str] = set()
        self._secrets: dict[str, tuple[str, ...]] = dict(SECRETS)
        self._made: Any = None

    @property
    def _key(self) -> Any:
        """Of the service account, made when it is needed."""
        with self._lock:
            if self._made is None:
                self._made = rsa.generate_private_key(65537, 2048)
            return self._made

    def key_file(self, origin: str) -> dict[str, str]:
        """That of the service account, as Google's console gives it; `origin`: of the mock API."""
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "key-1",
            "private_key": pem,
            "client_email": CLIENT_EMAIL,
            "token_uri": f"{origin}/google/token",
        }

    def google_token(self, origin: str, form: Mapping[str, Any]) -> Found:
        """An access token for a scope, or an identity token for an audience (RFC 7523)."""
        try:
            claims = jwt.decode(
                str(form.get("assertion")),
                self._key.public_key(),
                algorithms=["RS256"],
                audience=f"{origin}/google/token",
                issuer=CLIENT_EMAIL,
            )
        except jwt.PyJWTError as error:
            return 400, {"error": "invalid_grant", "error_description": str(error)}
        if form.get("grant_type") != _JWT_BEARER:
            return 400, {"error": "unsupported_grant_type"}
        if (audience := claims.get("target_audience")) is None:
            scope = str(claims.get("scope"))
            self._count(f"access token for {scope}")
            token = f"ya29.{self._count('access token of google')}-{len(scope)}"
            with self._lock:
                self._access_tokens.add(token)
            return 200, {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME}
        self._count(f"identity token for {audience}")
        fields = {"aud": audience, "email": CLIENT_EMAIL, "exp": int(time.time()) + LIFETIME}
        return 200, {"id_token": jwt.encode(fields, self._key, "RS256")}

    def identity(self, token: str) -> Found:
        """Whom an identity token is of, and for whom."""
        try:
            # it is told for whom the token is, and takes any
            claims = jwt.decode(token, self._key.public_key(), algorithms=["RS256"], options={"verify_aud": False})
        except jwt.PyJWTError:
            return 401, {"error": "invalid_token"}
        return 200, {"audience": claims["aud"], "email": claims["email"]}

    def google_secret(self, path: str, token: str) -> Found:
        """`path`: behind /v1/."""
        match = _VERSION.fullmatch(path)
        if token not in self._access_tokens:
            return 401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}}
        project, name, version = match.groups() if match else ("", "", "")
        known = _PIN if name.startswith(f"{_PIN}-") else name
        versions = self._secrets.get(known, ()) if project == PROJECT else ()
        number = len(versions) if version == "latest" else int(version) if version.isdecimal() else 0
        if not 1 <= number <= len(versions):
            return 404, {"error": {"code": 404, "status": "NOT_FOUND"}}
        self._count(f"secret {name}")
        data = base64.b64encode(versions[number - 1].encode()).decode()
        return 200, {"name": f"projects/{project}/secrets/{name}/versions/{number}", "payload": {"data": data}}

    def keep(self, name: str, content: str) -> None:
        """One more secret of Google's."""
        self._secrets[name] = (content,)

    def aws_secret(self, url: str, headers: Mapping[str, str], body: bytes) -> Found:
        """GetSecretValue; `headers` by names in lower case."""
        if not _is_signed(url, headers, body):
            return 400, {"__type": "InvalidSignatureException"}
        if headers.get("x-amz-target") != "secretsmanager.GetSecretValue":
            return 400, {"__type": "InvalidAction"}
        name = str(json.loads(body).get("SecretId"))
        if name not in AWS_SECRETS:
            return 400, {"__type": "ResourceNotFoundException", "Message": f"there is no {name}"}
        self._count(f"secret {name}")
        return 200, {"Name": name, "SecretString": AWS_SECRETS[name]}


def _is_signed(url: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the request is signed with AWS_KEYS, as the SDK of AWS would sign it."""
    match = _SIGNED.fullmatch(headers.get("authorization", ""))
    if match is None or match[1] != AWS_KEYS["access_key_id"]:
        return False
    signer = SigV4Auth(Credentials(match[1], AWS_KEYS["secret_access_key"]), "secretsmanager", AWS_KEYS["region"])
    named = {name: headers.get(name, "") for name in match[2].split(";") if name != "host"}
    request = AWSRequest("POST", url, headers=named, data=body)
    request.context["timestamp"] = headers.get("x-amz-date", "")
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return bool(expected == match[3])
