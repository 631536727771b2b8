"""Masks secrets in what one command gives back: those that it has used, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from .form_index import FormIndex
from .mask import MASK, masked
from .secret_forms import Check, Secret, forms, number_of, spellings

# of one command
MAX_SECRETS = 1000
MAX_SECRET_CHARACTERS = 512 * 1024

_NOTHING = FormIndex({})


class TooManySecrets(ValueError):
    """More than can be masked."""


class SecretTexts:
    """Replaces the secrets that it is told of by `***`, in all their forms, and nothing else. What it is told is
    prepared when it is first needed."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._secrets: dict[Secret, None] = {}
        self._characters = 0
        self._added: list[Secret] = []
        self._numbers: set[int | float] = set()
        self._forms: dict[str, Check | None] = {}
        self._index = _NOTHING
        # numbers in JSON that equal a secret, and are not spelled as one of its forms
        self._spelled = _NOTHING
        # several threads mask at once
        self._lock = threading.Lock()
        if secrets:
            self.add(secrets)

    def __bool__(self) -> bool:
        return bool(self._secrets)

    @property
    def backlog(self) -> int:
        """The secrets, and characters of secrets, that are not prepared yet."""
        return sum(len(str(secret)) + 1 for secret in self._added)

    def add(self, secrets: Iterable[Secret]) -> None:
        """Raises TooManySecrets, and then takes none of them."""
        new = [secret for secret in dict.fromkeys(secrets) if secret not in self._secrets]
        characters = self._characters + sum(len(str(secret)) for secret in new)
        if len(self._secrets) + len(new) > MAX_SECRETS:
            raise TooManySecrets(f"more than {MAX_SECRETS} secret values cannot be masked in one command")
        if characters > MAX_SECRET_CHARACTERS:
            limit = MAX_SECRET_CHARACTERS // 1024
            raise TooManySecrets(f"secret values of more than {limit} KiB in all cannot be masked in one command")
        self._secrets.update(dict.fromkeys(new))
        self._characters = characters
        self._added += new

    def prepare(self) -> FormIndex:
        """Takes time in proportion to the secrets."""
        if not self._added:
            return self._index
        with self._lock:
            # more may be added meanwhile
            added = list(self._added)
            found = {form: check for secret in added for form, check in forms(secret).items()}
            # what is the secret in any case goes before what has to be checked
            sure = {form: None for kept in (found, self._forms) for form, check in kept.items() if check is None}
            self._forms = {**self._forms, **found, **sure}
            numbers = {number for secret in added if (number := number_of(secret)) is not None}
            self._numbers = self._numbers | numbers
            self._index = FormIndex(self._forms)
            unlike = (it for it in spellings(self._numbers) if not self._index.is_in(it))
            self._spelled = FormIndex(dict.fromkeys(unlike))
            # only now: another thread would mask with what was known before
            del self._added[: len(added)]
            return self._index

    @property
    def numbers(self) -> set[int | float]:
        """The secrets that are numbers."""
        self.prepare()
        return self._numbers

    @property
    def forms(self) -> Collection[str]:
        """All texts that are looked for."""
        self.prepare()
        return self._forms

    def is_in(self, text: str) -> bool:
        """Whether there is a secret in it, or what looks like one."""
        return self.prepare().is_in(text)

    def text(self, text: str, *, may_be_cut: bool = False) -> str:
        """`may_be_cut`: whether also the beginning of a secret is masked where the text has been cut."""
        spans = self.prepare().spans(text, may_be_cut=may_be_cut)
        return masked(text, spans) if spans else text

    def tree(self, value: Any, *, may_be_cut: bool = False, keys: bool = True) -> Any:
        """A copy of a JSON value with every text masked, those of keys included unless they are known names, and every
        number that is a secret."""
        return self._copy(value, self.prepare(), may_be_cut, keys)

    def _copy(self, value: Any, index: FormIndex, may_be_cut: bool, keys: bool) -> Any:
        match value:
            case str():
                spans = index.spans(value, may_be_cut=may_be_cut) if index.may_begin_in(value) else ()
                return masked(value, spans) if spans else value
            case Mapping():
                copied: dict[Any, Any] = {}
                for key, item in value.items():
                    name = self._copy(key, index, may_be_cut, keys) if keys else key
                    copied[name if name == key else _free(name, copied)] = self._copy(item, index, may_be_cut, keys)
                return copied
            case list() | tuple():
                return [self._copy(item, index, may_be_cut, keys) for item in value]
            case None | bool():
                return value
            case int() | float():
                return MASK if value in self._numbers else value
            case _:
                return value

    def masked_value(self, value: Any) -> Any:
        """The JSON value itself if there is no secret in it, otherwise a copy as of `tree`."""
        index = self.prepare()
        try:
            content = orjson.dumps(value).decode()
        except TypeError:
            return self.tree(value)
        return self.tree(value) if index.is_in(content) or self._spelled.is_in(content) else value


def _free(name: str, taken: Mapping[Any, Any]) -> str:
    """`name`, or with a number appended if there is one already: two keys that held secrets stay two."""
    found, count = name, 2
    while found in taken:
        found, count = f"{name}{count}", count + 1
    return found
