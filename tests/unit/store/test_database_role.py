from __future__ import annotations

import base64
import hmac
import re

from noetl_serverless.store.database_role import role_name, url_as, verifier

# the exchange of RFC 7677, with the password "pencil"
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
FORM = re.compile(r"SCRAM-SHA-256\$4096:([^$]+)\$([^:]+):(.+)")


def test_the_server_proves_itself_by_the_verifier_as_in_the_standard() -> None:
    found = FORM.fullmatch(verifier("pencil", base64.b64decode(SALT)))
    assert found is not None and found[1] == SALT
    message = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s={SALT},i=4096,c=biws,r={NONCE}"
    signature = hmac.digest(base64.b64decode(found[3]), message.encode(), "sha256")
    assert base64.b64encode(signature).decode() == SERVER_SIGNATURE


def test_each_verifier_has_a_salt_of_its_own() -> None:
    assert verifier("pencil") != verifier("pencil")


def test_the_name_of_the_role_is_that_of_the_database() -> None:
    assert role_name("postgresql://u:p@h:5432/noetl?sslmode=require", "worker") == "noetl_worker"
    assert len(role_name(f"postgresql://h/{'x' * 63}", "worker")) == 63


def test_the_url_of_the_role_names_the_same_server_and_its_options() -> None:
    assert (
        url_as("noetl_worker", "postgresql://noetl:secret@127.0.0.1:5432/noetl?host=%2Ftmp", "a/b")
        == "postgresql://noetl_worker:a%2Fb@127.0.0.1:5432/noetl?host=%2Ftmp"
    )
