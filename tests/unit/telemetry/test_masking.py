from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from noetl_serverless.telemetry.masking import Masking, SecretTexts


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


class TestSecretTexts:
    SECRET = 'p+ss "w/rd" é\\'

    @pytest.fixture
    def texts(self) -> SecretTexts:
        texts = SecretTexts()
        texts.add(self.SECRET)
        return texts

    @pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
    @pytest.mark.parametrize("after", ["", "z", "yz", "xyz"])
    def test_base64_of_a_text_that_contains_it_is_masked(self, texts: SecretTexts, before: str, after: str) -> None:
        content = (before + self.SECRET + after).encode()
        for encoded in (base64.b64encode(content).decode(), base64.urlsafe_b64encode(content).decode()):
            masked = texts.text(encoded)
            # at most one character at either end shares its bits with what is around
            gone = len(encoded) - len(masked.replace("***", ""))
            assert gone >= len(self.SECRET.encode()) * 4 // 3 - 2, masked

    @pytest.mark.parametrize("form", [str, json.dumps, repr, quote, lambda text: quote(text, safe="")])
    def test_its_other_forms_are_masked(self, texts: SecretTexts, form: Callable[[str], str]) -> None:
        assert texts.text(f"a {form(self.SECRET)} b").strip("ab ").strip("\"'") == "***"

    def test_each_line_of_a_key_is_masked(self) -> None:
        texts = SecretTexts()
        texts.add("-----BEGIN KEY-----\nMIIEvQIBADANBg\nshort\n-----END KEY-----")
        assert texts.text("line 2: MIIEvQIBADANBg") == "line 2: ***"
        assert texts.text("short") == "short"

    def test_a_whole_tree_is_masked_and_nothing_else(self, texts: SecretTexts) -> None:
        tree = {self.SECRET: [self.SECRET, 1, None, True, {"password": "kept"}], "n": 1.5}
        assert texts.tree(tree) == {"***": ["***", 1, None, True, {"password": "kept"}], "n": 1.5}
        assert SecretTexts().tree(tree) == tree and not SecretTexts()
