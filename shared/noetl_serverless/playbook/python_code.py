"""Python code in a playbook: never a template; its syntax is checked with the playbook."""

from __future__ import annotations

import ast
import base64
import binascii
import warnings


class CodeError(Exception):
    """`line` is the line within the code, counted from 1."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


def decode_code(text: str) -> str:
    """The code that `text` holds in base64; raises CodeError if it is not base64."""
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise CodeError(f"code_b64 is not valid base64 text: {error}") from None


def check_code(code: str) -> ast.Module:
    """The parsed code; raises CodeError if Python cannot compile the code, or not without taking too much."""
    # only what is needed: a cold start is import time
    from .code_size import CodeTooLarge, check_compiles

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check_compiles(code)
    except SyntaxError as error:
        raise CodeError(f"Python: {error.msg}", error.lineno, error.offset) from None
    except CodeTooLarge as error:
        raise CodeError(str(error)) from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise CodeError(f"Python cannot compile this: {error}") from None
