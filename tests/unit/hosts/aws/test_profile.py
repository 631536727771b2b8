"""Keys, region and endpoint of S3 on a user's own machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from noetl_serverless.hosts.aws.account import NoCredentials
from noetl_serverless.hosts.aws.profile import account_of

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of the process, as botocore reads it: nothing but two files, and no instance to ask."""
    names = (*KEYS, "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
    for name in (*names, "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    given = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


async def test_keys_in_the_environment_need_no_boto3() -> None:
    source = (
        "import sys; from noetl_serverless.hosts.aws.profile import account_of;"
        f"print(account_of({KEYS | {'AWS_REGION': 'eu-x-1'}!r}).region, 'botocore' in sys.modules)"
    )
    done = await _run(source)
    assert done.stdout.split() == ["eu-x-1", "False"], done.stderr


async def _run(source: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )


async def test_a_profile_has_keys_a_region_and_an_endpoint(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = d\n"
        "[garage]\naws_access_key_id = AKIDGARAGE\naws_secret_access_key = g\naws_session_token = t\n"
    )
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\n"
        "[profile garage]\nregion = garage\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = http://127.0.0.1:3900/\n"
    )
    account = account_of(environ)
    assert (account.region, account.custom_endpoint("s3")) == ("eu-west-1", None)
    assert (await account.current_credentials()).key_id == "AKIDDEFAULT"
    monkeypatch.setenv("AWS_PROFILE", "garage")
    account = account_of({**environ, "AWS_PROFILE": "garage"})
    assert (account.region, account.custom_endpoint("s3")) == ("garage", "http://127.0.0.1:3900")
    credentials = await account.current_credentials()
    assert (credentials.key_id, credentials.secret, credentials.token) == ("AKIDGARAGE", "g", "t")
    assert "'g'" not in repr(account)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("keys", [KEYS, {}])
def test_the_environment_may_name_another_endpoint(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keys: dict[str, str]
) -> None:
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = d\n")
    monkeypatch.setenv(name, "http://127.0.0.1:9000/")
    account = account_of({**environ, **keys, name: "http://127.0.0.1:9000/"})
    assert account.custom_endpoint("s3") == "http://127.0.0.1:9000"


def test_who_has_no_keys_learns_where_they_are_looked_for(environ: dict[str, str]) -> None:
    with pytest.raises(NoCredentials, match="AWS_ACCESS_KEY_ID, AWS_PROFILE"):
        account_of(environ)


def test_a_profile_that_does_not_exist_is_named(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NoCredentials, match="nobody"):
        account_of({**environ, "AWS_PROFILE": "nobody"})


def test_without_boto3_a_profile_says_what_to_install(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(NoCredentials, match=r"noetl-serverless\[aws\]"):
        account_of(environ)


async def test_keys_that_end_are_renewed(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a process that a profile names are, each time they are about to end."""
    script = tmp_path / "keys.py"
    script.write_text(
        "import json, pathlib, datetime\n"
        f"counter = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "n = len(counter.read_text()) if counter.exists() else 0\n"
        "counter.write_text('x' * (n + 1))\n"
        "end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'AKID{n}', 'SecretAccessKey': 's', 'SessionToken': 't',"
        " 'Expiration': end.isoformat()}))\n"
    )
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    account = account_of(environ)
    first = (await account.current_credentials()).key_id
    assert (await account.current_credentials()).key_id != first
