"""`libs` of Python code: the modules that it finds imported."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

MAX_LIBS: Final = 100
MAX_CHARACTERS: Final = 200
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
# in a list also the name of a distribution that is no module, such as psycopg2-binary: it has to be installed
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-[A-Za-z0-9._-]*[A-Za-z0-9]")


def faults_of(libs: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with it, each with the place in it."""
    if not isinstance(libs, Mapping | list):
        yield (), "libs is an object of module names, {np: numpy, json: json}, or a list of them"
        return
    if len(libs) > MAX_LIBS:
        yield (), f"libs names {len(libs)} modules, more than {MAX_LIBS}"
    for place, module in libs.items() if isinstance(libs, Mapping) else enumerate(libs):
        if isinstance(place, str) and (not place.isidentifier() or keyword.iskeyword(place)):
            yield (place,), f"'{place[:MAX_CHARACTERS]}' cannot be a name in Python code"
        elif place == "result":
            yield (place,), "'result' is what the code leaves as its result; give the module another name"
        if not isinstance(module, str):
            yield (place,), "a module is named by a string"
        elif "{{" in module or "{%" in module:
            yield (place,), "a module cannot be named by a template: it is imported as it stands here"
        elif isinstance(libs, list) and _DISTRIBUTION.fullmatch(module[: MAX_CHARACTERS + 1]):
            continue
        elif len(module) > MAX_CHARACTERS or not _MODULE.fullmatch(module):
            yield (place,), f"'{module[:MAX_CHARACTERS]}' is not the name of a module, such as numpy or os.path"
