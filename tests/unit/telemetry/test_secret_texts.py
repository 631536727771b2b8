from __future__ import annotations

import base64
import html
import json
import re
import string
import threading
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest

from noetl_serverless.telemetry.secret_texts import MAX_SECRET_CHARACTERS, MAX_SECRETS, SecretTexts, TooManySecrets

SECRET = 'p+ss "w/rd" é\\'
ODD = 'p@ss w!rd\'ü/x+y=12 "q" 100%41 #a&b <c>'


@pytest.fixture
def texts() -> SecretTexts:
    return SecretTexts([SECRET])


@pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
@pytest.mark.parametrize("after", ["", "z", "yz", "xyz"])
def test_base64_of_a_text_that_contains_it_is_masked(texts: SecretTexts, before: str, after: str) -> None:
    content = (before + SECRET + after).encode()
    for encoded in (base64.b64encode(content).decode(), base64.urlsafe_b64encode(content).decode()):
        masked = texts.text(encoded)
        # at most one character at either end shares its bits with what is around
        gone = len(encoded) - len(masked.replace("***", ""))
        assert gone >= len(SECRET.encode()) * 4 // 3 - 2, masked


@pytest.mark.parametrize(
    "form",
    [
        *(str, json.dumps, repr, ascii, quote, quote_plus, html.escape),
        lambda text: json.dumps(json.dumps(text, ensure_ascii=False))[3:-3],
        lambda text: quote(text, safe=""),
        lambda text: quote_plus(text).lower() if text.islower() else quote(text, safe=""),
        lambda text: html.escape(text, quote=False),
        lambda text: str(html.escape(text)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
        lambda text: urlencode({"k": text}).removeprefix("k="),
        lambda text: str(text.encode())[2:-1],
        lambda text: text.encode().decode("latin-1"),
        lambda text: repr("\"'" + text)[4:-1],
        lambda text: text.replace("'", "''"),
    ],
)
@pytest.mark.parametrize("secret", [SECRET, ODD])
def test_its_other_forms_are_masked(form: Callable[[str], str], secret: str) -> None:
    shown = f"a= {form(secret)} ,b"
    masked = SecretTexts([secret]).text(shown)
    assert masked.replace("***", "").strip("a=,b \"'") == "", f"of {shown} is left {masked}"


def test_each_line_of_a_key_is_masked() -> None:
    texts = SecretTexts(["-----BEGIN KEY-----\nMIIEvQIBADANBg\nshort\n-----END KEY-----"])
    assert texts.text("line 2: MIIEvQIBADANBg") == "line 2: ***"
    assert texts.text("short") == "short"


def test_a_whole_tree_is_masked_and_nothing_else(texts: SecretTexts) -> None:
    tree = {SECRET: [SECRET, 1, None, True, {"password": "kept"}], "n": 1.5}
    assert texts.tree(tree) == {"***": ["***", 1, None, True, {"password": "kept"}], "n": 1.5}
    assert SecretTexts().tree(tree) == tree and not SecretTexts()


def test_a_value_without_a_secret_is_not_copied(texts: SecretTexts) -> None:
    tree = {"a": ["x", 1, 12345, None]}
    assert texts.masked_value(tree) is tree
    assert texts.masked_value({"a": [SECRET]}) == {"a": ["***"]}
    assert texts.masked_value(SECRET) == "***"


@pytest.mark.parametrize("form", [str, repr, json.dumps, quote_plus, lambda text: base64.b64encode(text.encode())])
@pytest.mark.parametrize("secret", [SECRET, ODD, "abc", "tab\tnul", 'a"b', "simple-token"])
def test_a_value_is_masked_as_its_tree_is(form: Callable[[str], Any], secret: str) -> None:
    written = form(secret)
    value = {"deep": [{"text": f"is {written if isinstance(written, str) else written.decode()}"}]}
    texts = SecretTexts([secret])
    assert texts.masked_value(value) == texts.tree(value) != value


def test_a_value_that_json_does_not_know_is_masked_too(texts: SecretTexts) -> None:
    assert texts.masked_value({"a": 2**70, "b": SECRET}) == {"a": 2**70, "b": "***"}


def test_secrets_that_overlap_leave_nothing_between_them() -> None:
    texts = SecretTexts(["abcXYZ", "XYZdef", "Zde"])
    assert texts.text("1 abcXYZdef 2 XYZdef 3 abcXYZ 4") == "1 *** 2 *** 3 *** 4"


def test_secrets_side_by_side_are_masked_as_one(texts: SecretTexts) -> None:
    assert texts.text(SECRET * 3) == "***"


@pytest.mark.parametrize("length", [1024, 1025, 1036, 1037, 5000])
def test_a_long_secret_is_masked_as_one(length: int) -> None:
    secret = "".join(Random(length).choices(string.ascii_letters + " ", k=length))
    texts = SecretTexts([secret])
    assert texts.text(f"is {secret}!") == texts.text(f"is {quote_plus(secret)}!") == "is ***!"
    assert texts.masked_value([secret]) == ["***"]


def test_of_secrets_that_begin_alike_each_is_masked_and_nothing_else() -> None:
    random = Random(4)
    for _ in range(200):
        secrets = {"".join(random.choices("ab", k=random.randint(3, 9))) for _ in range(random.randint(1, 12))}
        text = "".join(random.choices("abc", k=60))
        hidden = {n for s in secrets for at in range(60) if text.startswith(s, at) for n in range(at, at + len(s))}
        shown = "".join("*" if n in hidden else character for n, character in enumerate(text))
        assert SecretTexts(secrets).text(text) == re.sub(r"\*+", "***", shown), (secrets, text)


class TestNumbers:
    TEXTS = SecretTexts([98765432, 1234.5, -4711])

    def test_a_number_is_masked_as_text(self) -> None:
        assert self.TEXTS.text("pin 98765432, 1234.5 and -4711") == "pin ***, *** and -***"

    def test_numbers_that_contain_its_digits_are_not(self) -> None:
        shown = "1987654321 987654320 at 2026-01-01T00:00:00.987654329Z"
        assert self.TEXTS.text(shown) == shown

    @pytest.mark.parametrize("number", [98765432, 98765432.0, 1234.5, -4711])
    def test_equal_numbers_are_masked(self, number: float) -> None:
        assert self.TEXTS.masked_value({"a": [number]}) == self.TEXTS.tree({"a": [number]}) == {"a": ["***"]}

    @pytest.mark.parametrize(
        ("secret", "number"),
        [
            ("1234567.00", 1234567),
            ("1234567.00", 1234567.0),
            (1234567.0, 1234567),
            (10**17, 1e17),
            ("+7654321", 7654321),
        ],
    )
    def test_equal_numbers_are_masked_however_they_are_spelled(self, secret: str | float, number: float) -> None:
        texts = SecretTexts([secret])
        value = {"a": [number]}
        assert texts.masked_value(value) == texts.tree(value) == {"a": ["***"]}
        assert texts.masked_value({"a": [2 * number]}) == {"a": [2 * number]}

    def test_other_numbers_are_not(self) -> None:
        tree = [98765433, 0, 1, True, 4711.5, 1234]
        assert self.TEXTS.tree(tree) == tree

    def test_numbers_of_less_than_four_digits_are_no_secrets(self) -> None:
        texts = SecretTexts([123, 0, 1, 2.5])
        assert texts.tree({"a": [123, "123 0 1 2.5"]}) == {"a": [123, "123 0 1 2.5"]}

    def test_a_number_is_masked_that_a_secret_text_means(self) -> None:
        texts = SecretTexts(["98765432", "0012.50"])
        assert texts.masked_value([98765432, 12.5, "98765432"]) == ["***", 12.5, "***"]
        assert SecretTexts(["9" * 5000]).tree([1, 2345]) == [1, 2345]

    def test_its_base64_is_masked(self) -> None:
        assert self.TEXTS.text(base64.b64encode(b"u:98765432").decode()).count("*") == 3


class TestShortSecrets:
    """Of less than eight bytes."""

    @pytest.mark.parametrize("secret", ["abc", "pin4", "hunt3", "hunt3r", "hunt3r2"])
    @pytest.mark.parametrize("user", ["", "u", "us", "use", "somebody"])
    def test_base64_of_credentials_is_masked(self, secret: str, user: str) -> None:
        for encoded in (base64.b64encode, base64.urlsafe_b64encode):
            content = f"{user}:{secret}".encode()
            sent = encoded(content).decode()
            for shown in (f"Basic {sent}", f'{{"a": "{sent}"}}', f"?auth={sent.rstrip('=')}&x", f"/x/{sent}"):
                masked = SecretTexts([secret]).text(shown)
                assert masked.count("***") == 1, shown
                left = masked.partition("***")[0][-4:]
                assert base64.b64encode(secret.encode()).decode().rstrip("=") not in left + "***"

    def test_base64_of_binary_data_is_left_as_it_is(self) -> None:
        random, texts = Random(1), SecretTexts(["abc"])
        content = base64.b64encode(random.randbytes(30_000) + b"abc" + random.randbytes(30_000)).decode()
        assert texts.text(content) == content

    def test_base64_of_all_text_is_masked_where_it_stands_by_itself(self) -> None:
        texts = SecretTexts(["abc"])
        assert texts.text("it is YWJj, not xYWJjx") == "it is ***, not xYWJjx"

    def test_words_are_left_as_they_are(self) -> None:
        random = Random(2)
        words = ["".join(random.choices(string.ascii_letters, k=random.randint(3, 12))) for _ in range(20_000)]
        secrets = ["".join(random.choices("#!$%&", k=random.randint(3, 7))) for _ in range(500)]
        text = " ".join(words)
        assert SecretTexts(secrets).text(text) == text


class TestCutTexts:
    def test_the_beginning_of_a_secret_is_masked_before_the_sign_of_a_cut(self) -> None:
        texts = SecretTexts(["hunter22-and-more"])
        assert texts.text("at hunter22-a…: bad", may_be_cut=True) == "at ***…: bad"
        assert texts.text("at hunter22-a… and hunter22-and-more", may_be_cut=True) == "at ***… and ***"
        assert texts.text("at hunter22-a", may_be_cut=True) == "at hunter22-a"

    def test_at_the_end_of_a_long_text_no_sign_is_needed(self) -> None:
        texts = SecretTexts(["hunter22-and-more"])
        assert texts.text("x" * 8180 + "hunter22-and", may_be_cut=True) == "x" * 8180 + "***"

    def test_what_is_never_cut_is_left(self) -> None:
        shown = "the ending…"
        texts = SecretTexts(["ending of a secret"])
        assert (texts.text(shown), texts.masked_value([shown])) == (shown, [shown])


class TestLimits:
    def test_more_than_so_many_secrets_are_refused_and_none_is_taken(self) -> None:
        texts = SecretTexts([f"secret-{n:04}" for n in range(MAX_SECRETS)])
        texts.add(["secret-0000"])
        with pytest.raises(TooManySecrets, match="more than 1000"):
            texts.add(["another", "secret-0001"])
        assert texts.text("secret-0999 another") == "*** another"

    def test_secrets_of_more_than_so_many_characters_are_refused(self) -> None:
        with pytest.raises(TooManySecrets, match="512 KiB"):
            SecretTexts(["x" * MAX_SECRET_CHARACTERS, "y"])

    def test_all_secrets_are_found_in_a_large_text(self) -> None:
        random = Random(3)
        secrets = ["".join(random.choices(string.ascii_letters + string.digits, k=32)) for _ in range(MAX_SECRETS)]
        filler = "".join(random.choices(string.ascii_letters, k=1000))
        texts = SecretTexts(secrets)
        assert texts.text(filler.join(secrets)) == filler.join(["***"] * MAX_SECRETS)

    def test_threads_that_mask_while_secrets_are_prepared_mask_all_of_them(self) -> None:
        texts = SecretTexts(["the first secret"])
        texts.prepare()
        texts.add([f"secret #{n:04} ü" for n in range(500)])
        shown: list[str] = []
        threads = [threading.Thread(target=lambda: shown.append(texts.text("secret #0499 ü"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shown == ["***"] * 4


def test_a_secret_that_is_no_valid_unicode_is_masked() -> None:
    texts = SecretTexts(["half \ud800 of a pair"])
    assert texts.text("is half \ud800 of a pair") == "is ***"


def test_two_keys_that_hold_secrets_stay_two() -> None:
    found = SecretTexts(["secretA1", "secretB1"]).tree({"secretA1": 1, "other": 2, "secretB1": 3})
    assert found == {"***": 1, "other": 2, "***2": 3}


def test_known_names_are_not_masked() -> None:
    found = SecretTexts(["code", "status"]).tree({"code": "the code", "http": {"status": "x"}}, keys=False)
    assert found == {"code": "the ***", "http": {"status": "x"}}
