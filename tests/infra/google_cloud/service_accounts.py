"""IAM's service accounts, and IAM Credentials, which issues their tokens."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable
from datetime import timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.cloud import iam_admin_v1, iam_credentials_v1

from .errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from .identities import AccessTokens, Caller, IdTokens
from .messages import Form, Message, now, render, seconds
from .policies import Kind, Policies
from .project import Project
from .routes import Answer, Call, Route, page

SERVICE = "iam"
CREDENTIALS = "iamcredentials"
KIND = Kind("iam.serviceAccounts", ("iam",))

# those by which Google's services act; they are there without being made
AGENTS = ("gs-project-accounts", "gcp-sa-pubsub", "gcp-sa-cloudtasks", "gcp-sa-cloudscheduler", "serverless-robot-prod")

_ACCOUNT_ID = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")
_TEXTS = "display_name description"
_OUTPUT = "name project_id unique_id email etag oauth2_client_id disabled"
_ACCOUNT = Form(iam_admin_v1.ServiceAccount, _TEXTS, _OUTPUT)
_CREATE = Form(
    iam_admin_v1.CreateServiceAccountRequest,
    " ".join(["account_id", *(f"service_account.{name}" for name in _TEXTS.split())]),
    " ".join(f"service_account.{name}" for name in _OUTPUT.split()),
)
_PATCH = Form(iam_admin_v1.PatchServiceAccountRequest, "service_account update_mask")
_ACCESS_TOKEN = Form(iam_credentials_v1.GenerateAccessTokenRequest, "scope lifetime", "name")
_ID_TOKEN = Form(iam_credentials_v1.GenerateIdTokenRequest, "audience include_email", "name")
_BLOB = Form(iam_credentials_v1.SignBlobRequest, "payload", "name")
_MAX_LIFETIME = 3600.0


class ServiceAccounts:
    """By e-mail address."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._accounts: dict[str, Message] = {}

    def __contains__(self, email: str) -> bool:
        return email in self._accounts or email in map(self._project.service_agent, AGENTS)

    def names(self) -> list[str]:
        return [account.name for account in self._accounts.values()]

    def get(self, email: str) -> Message:
        """By address or unique id. NotFound."""
        for account in self._accounts.values():
            if email in (account.email, account.unique_id):
                return account
        raise NotFound(f"Unknown service account {email}")

    def check_may_act_as(self, policies: Policies, caller: Caller, email: str) -> None:
        """PermissionDenied unless the caller may give a resource that account; NotFound."""
        policies.check(caller, "iam.serviceAccounts.actAs", f"{self._project.name}/serviceAccounts/{email}")
        self.get(email)

    def caller(self, email: str) -> Caller:
        """Who calls with its tokens. Raises NotFound, and FailedPrecondition if it is disabled."""
        account = self.get(email)
        if account.disabled:
            raise FailedPrecondition(f"Service account {account.email} is disabled.")
        return Caller(account.email, account.unique_id)

    def email_of(self, subject: str) -> str | None:
        """Of the account with that unique id, if it is there and enabled; a person's is what it is."""
        if "@" in subject:
            return subject
        accounts = self._accounts.values()
        return next((one.email for one in accounts if one.unique_id == subject and not one.disabled), None)

    def add(self, account_id: str, display_name: str = "", description: str = "") -> Message:
        if not _ACCOUNT_ID.fullmatch(account_id):
            raise InvalidArgument(
                f"The account id {account_id!r} is not valid: 6 to 30 lowercase letters, digits and hyphens, beginning "
                "with a letter."
            )
        email = f"{account_id}@{self._project.id}.iam.gserviceaccount.com"
        if email in self._accounts:
            raise AlreadyExists(f"Service account {account_id} already exists within project {self._project.name}.")
        unique_id = str(10**20 + secrets.randbelow(9 * 10**19))
        account = _ACCOUNT.kind(
            name=f"{self._project.name}/serviceAccounts/{email}",
            project_id=self._project.id,
            unique_id=unique_id,
            email=email,
            display_name=display_name,
            description=description,
            oauth2_client_id=unique_id,
            etag=secrets.token_bytes(8),
        )
        self._accounts[email] = account
        return account

    def remove(self, account: Message) -> None:
        del self._accounts[account.email]

    def all(self) -> list[Message]:
        return sorted(self._accounts.values(), key=lambda account: str(account.email))


class ServiceAccountMethods:
    def __init__(
        self,
        project: Project,
        accounts: ServiceAccounts,
        policies: Policies,
        access_tokens: AccessTokens,
        id_tokens: IdTokens,
    ) -> None:
        self._project = project
        self._accounts = accounts
        self._policies = policies
        self._access_tokens = access_tokens
        self._id_tokens = id_tokens
        self._keys: dict[str, rsa.RSAPrivateKey] = {}

    def routes(self) -> Iterable[Route]:
        one = "/v1/{name=projects/*/serviceAccounts/*}"
        accounts = "/v1/{name=projects/*}/serviceAccounts"
        yield Route(SERVICE, "createServiceAccount", "POST", accounts, self.create)
        yield Route(SERVICE, "listServiceAccounts", "GET", accounts, self.list, ["pageSize", "pageToken"])
        yield Route(SERVICE, "getServiceAccount", "GET", one, self.get)
        yield Route(SERVICE, "patchServiceAccount", "PATCH", one, self.patch)
        yield Route(SERVICE, "deleteServiceAccount", "DELETE", one, self.delete)
        yield Route(SERVICE, "enableServiceAccount", "POST", f"{one}:enable", self.enable)
        yield Route(SERVICE, "disableServiceAccount", "POST", f"{one}:disable", self.disable)
        yield Route(CREDENTIALS, "generateAccessToken", "POST", f"{one}:generateAccessToken", self.access_token)
        yield Route(CREDENTIALS, "generateIdToken", "POST", f"{one}:generateIdToken", self.id_token)
        yield Route(CREDENTIALS, "signBlob", "POST", f"{one}:signBlob", self.sign_blob)
        yield from self._policies.routes(
            SERVICE, "/v1/{resource=projects/*/serviceAccounts/*}", KIND, self._by_name, get_by="POST"
        )

    async def create(self, call: Call) -> Answer:
        self._policies.check(call.caller, "iam.serviceAccounts.create", self._project.name)
        given = _CREATE.parse(await call.document())
        account = given.service_account
        return render(self._accounts.add(given.account_id, account.display_name, account.description))

    async def list(self, call: Call) -> Answer:
        self._policies.check(call.caller, "iam.serviceAccounts.list", self._project.name)
        accounts, more = page(self._accounts.all(), call.query)
        return {"accounts": [render(account) for account in accounts], **more}

    async def get(self, call: Call) -> Answer:
        return render(self._checked(call, "get"))

    async def patch(self, call: Call) -> Answer:
        account = self._checked(call, "update")
        given = _PATCH.parse(await call.document())
        _ACCOUNT.update(account, given.service_account, ",".join(given.update_mask.paths))
        account.etag = secrets.token_bytes(8)
        return render(account)

    async def delete(self, call: Call) -> Answer:
        account = self._checked(call, "delete")
        self._accounts.remove(account)
        self._access_tokens.revoke(account.unique_id)
        self._policies.drop(account.name)
        self._policies.forget_account(account.email, account.unique_id)
        return {}

    async def enable(self, call: Call) -> Answer:
        self._checked(call, "enable").disabled = False
        return {}

    async def disable(self, call: Call) -> Answer:
        account = self._checked(call, "disable")
        account.disabled = True
        self._access_tokens.revoke(account.unique_id)
        return {}

    async def access_token(self, call: Call) -> Answer:
        account = self._checked(call, "getAccessToken")
        given = _ACCESS_TOKEN.parse(await call.document())
        lifetime = seconds(given.lifetime) or _MAX_LIFETIME
        if not given.scope:
            raise InvalidArgument("At least one scope is required.")
        if not 0 < lifetime <= _MAX_LIFETIME:
            raise InvalidArgument("The lifetime must be at most an hour.")
        token = self._access_tokens.issue(self._accounts.caller(account.email), lifetime)
        expires = (now() + timedelta(seconds=lifetime)).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"accessToken": token, "expireTime": expires}

    async def id_token(self, call: Call) -> Answer:
        account = self._checked(call, "getOpenIdToken")
        given = _ID_TOKEN.parse(await call.document())
        if not given.audience:
            raise InvalidArgument("An audience is required.")
        caller = self._accounts.caller(account.email)
        return {"token": self._id_tokens.issue(caller, given.audience, with_email=given.include_email)}

    async def sign_blob(self, call: Call) -> Answer:
        """With the key of that account; it is not the same after a restart."""
        account = self._checked(call, "signBlob")
        given = _BLOB.parse(await call.document())
        if not given.payload:
            raise InvalidArgument("A payload is required.")
        key = self._keys.setdefault(account.unique_id, rsa.generate_private_key(65537, 2048))
        signed = key.sign(given.payload, padding.PKCS1v15(), hashes.SHA256())
        return {"keyId": account.unique_id, "signedBlob": base64.b64encode(signed).decode()}

    def _checked(self, call: Call, permission: str) -> Message:
        """The account that the path names. PermissionDenied before NotFound."""
        email = call.path["name"].rpartition("/")[2]
        try:
            account = self._accounts.get(email)
        except NotFound:
            self._policies.check(call.caller, f"iam.serviceAccounts.{permission}", call.path["name"])
            raise
        self._policies.check(call.caller, f"iam.serviceAccounts.{permission}", account.name)
        return account

    def _by_name(self, name: str) -> Message:
        return self._accounts.get(name.rpartition("/")[2])
