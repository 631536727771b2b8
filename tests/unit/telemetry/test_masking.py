from __future__ import annotations

import json

import pytest

from noetl_serverless.telemetry.masking import Masking


@pytest.fixture
def masking() -> Masking:
    return Masking()


def test_a_registered_value_is_masked_wherever_it_stands(masking: Masking) -> None:
    masking.register("hunter22")
    assert masking.text("a hunter22, xhunter22x") == "a ***, x***x"
    assert masking.text("hunter2") == "hunter2"


def test_a_registered_value_is_masked_inside_of_json_too(masking: Masking) -> None:
    secret = 'quote " back\\slash ü'
    masking.register(secret)
    for text in (json.dumps({"a": secret}), json.dumps({"a": secret}, ensure_ascii=False)):
        assert json.loads(masking.text(text)) == {"a": "***"}


def test_of_two_secrets_the_longer_one_goes_first(masking: Masking) -> None:
    masking.register("abcd")
    masking.register("abcdefgh")
    assert masking.text("abcdefgh") == "***"


def test_a_value_with_signs_of_regular_expressions_is_taken_literally(masking: Masking) -> None:
    masking.register("a.*b|c(")
    assert masking.text("a.*b|c( axxb") == "*** axxb"


def test_values_too_short_to_be_secret_are_left(masking: Masking) -> None:
    masking.register("abc")
    masking.register("")
    assert masking.text("abc") == "abc"


def test_the_oldest_values_are_forgotten(masking: Masking) -> None:
    for number in range(2001):
        masking.register(f"secret-{number:05}")
    assert masking.text("secret-00000") == "secret-00000"
    assert masking.text("secret-02000") == "***"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
        ("basic dXNlcjpwYXNz", "basic ***"),
        ("token eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl end", "token *** end"),
        ("postgresql://ann:pa55@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("nats://noetl:abc@127.0.0.1:4222", "nats://noetl:***@127.0.0.1:4222"),
        ("password=pa55 host=db", "password=*** host=db"),
        ("password: pa55, host: db", "password: ***, host: db"),
        ("api_key=abc&x=1", "api_key=***&x=1"),
        ("https://example.org/a?b=c", "https://example.org/a?b=c"),
        ("the bearer of bad news", "the bearer of bad news"),
        ("a password is needed", "a password is needed"),
    ],
)
def test_what_looks_like_a_secret_is_masked(masking: Masking, text: str, masked: str) -> None:
    assert masking.text(text) == masked


def test_a_tree_is_masked_by_key_and_by_value(masking: Masking) -> None:
    masking.register("hunter22")
    tree = {
        "password": "x",
        "db_password": {"deep": 1},
        "Authorization": "x",
        "api-key": "x",
        "session_token": "x",
        "token": None,
        "tokens": 5,
        "list": ["hunter22", 1, ("hunter22",)],
        "text": "is hunter22",
        1: True,
    }
    assert masking.tree(tree) == {
        "password": "***",
        "db_password": "***",
        "Authorization": "***",
        "api-key": "***",
        "session_token": "***",
        "token": None,
        "tokens": 5,
        "list": ["***", 1, ["***"]],
        "text": "is ***",
        1: True,
    }
    assert tree["password"] == "x"


def test_a_value_is_masked_as_soon_as_it_is_registered_however_many_there_are(masking: Masking) -> None:
    for number in range(300):
        masking.register(f"secret-{number:03}")
        shown = masking.text(f"0: secret-000, {number}: secret-{number:03}")
        assert shown == f"0: ***, {number}: ***"


def test_values_that_overlap_are_masked_as_one(masking: Masking) -> None:
    for number in range(100):
        masking.register(f"settled-{number:03}")
    assert masking.text("settled-000") == "***"
    masking.register("led-000-recent")
    assert masking.text("a settled-000-recent b") == "a *** b"


def test_a_value_is_masked_in_a_url_and_in_base64_too(masking: Masking) -> None:
    masking.register("p@ss w/rd+1")
    assert masking.text("/q?p=p%40ss+w%2Frd%2B1&r=cEBzcyB3L3JkKzE=") == "/q?p=***&r=***E="


def test_a_number_is_masked_where_it_stands_by_itself(masking: Masking) -> None:
    masking.register(98765432)
    assert masking.text("pin 98765432, id 1987654321") == "pin ***, id 1987654321"


def test_the_values_that_are_kept_have_a_limited_size_in_all(masking: Masking) -> None:
    masking.register("the first one")
    masking.register("x" * 1024 * 1024)
    assert masking.text("the first one") == "the first one"
