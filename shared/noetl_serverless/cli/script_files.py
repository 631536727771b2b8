"""The scripts of a playbook, and the tools that it calls, that are files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Final

from ..errors import Fault
from .failure import WrongUse

# of the fault of a script that is there and cannot be sent
CODE: Final = "playbook.script"
# of a folder that is not the playbook's, only files with such names are sent
_SUFFIXES: Final = (".py", ".sql")


def with_script_files(text: str, file: str) -> str:
    """The text of a playbook with the files that its tasks name as scripts, which are below the folder of `file`, or
    else below the current one. WrongUse that lists those that cannot be sent; a text that is no playbook is left as it
    is."""
    from ..playbook.faults import problem

    text, faults = with_found_scripts(text, file)
    if faults:
        missing = problem(faults)
        raise WrongUse(f"{file}: {missing.detail}", {**missing.to_dict(), "file": file})
    return text


def with_found_scripts(text: str, file: str) -> tuple[str, list[Fault]]:
    """As `with_script_files`, with a fault for each script that cannot be sent."""
    if "script" not in text and "tool" not in text:
        return text, []
    from ..errors import InvalidPlaybook
    from ..playbook.load import read_playbook
    from ..playbook.scripts import scripts_of, with_scripts
    from .tool_files import tool_definitions

    try:
        document = read_playbook(text)
    except InvalidPlaybook:
        return text, []
    files = _Files(None if file == "-" else Path(file).resolve().parent, Path.cwd().resolve(), document.scripts)
    faults = []
    for path, script in scripts_of(document.root):
        if script.type == "file":
            try:
                files.add(script.location)
            except _NotSent as refused:
                faults.append(document.fault(refused.message, (*path, "uri"), refused.code))
    contents = {**files.contents, **tool_definitions(document, file)}
    return (text if contents == document.scripts else with_scripts(text, contents)), faults


class _NotSent(Exception):
    def __init__(self, message: str, code: str = CODE) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class _Files:
    """The contents of scripts by location."""

    def __init__(self, folder: Path | None, current: Path, known: Mapping[str, str]) -> None:
        """`folder`: that of the playbook, None if it is read from standard input; `known`: what need not be read."""
        self._folder = folder
        self._current = current
        self.contents = dict(known)

    def add(self, name: str) -> None:
        """Raises _NotSent."""
        if name not in self.contents:
            self.contents[name] = _content(name, self._place(name))

    def _place(self, name: str) -> Path:
        from ..playbook.scripts import SCRIPT_MISSING

        if self._folder is not None and (own := (self._folder / name).resolve()).exists():
            return self._in_own_folder(name, own, self._folder)
        # older playbooks name their scripts from the root of their repository
        below = (self._current / name).resolve()
        is_below = below.is_relative_to(self._current) and not PurePath(name).is_absolute()
        if is_below and below.exists():
            return self._in_current_folder(name, below)
        raise _NotSent(f"there is no script '{name}' below {self._searched(is_below)}", SCRIPT_MISSING)

    def _searched(self, current_too: bool) -> str:
        if self._folder is None:
            return f"{self._current}, the current folder"
        current = f", or {self._current}, the current one" if current_too and self._current != self._folder else ""
        return f"{self._folder}, the folder of the playbook{current}"

    def _in_own_folder(self, name: str, path: Path, folder: Path) -> Path:
        if not path.is_relative_to(folder):
            way_out = ""
            if path.is_relative_to(self._current) and _is_script(path, self._current):
                way_out = f"; write uri: {path.relative_to(self._current)}, which is found below the current folder"
            raise _NotSent(f"the script '{name}' is outside the folder of the playbook, {folder}{way_out}")
        if _is_hidden(path, folder):
            raise _NotSent(f"the script '{name}' is not sent: a part of its path begins with a dot")
        return path

    def _in_current_folder(self, name: str, path: Path) -> Path:
        """The current folder may be a home: what a playbook from elsewhere names there must look like a script."""
        if not _is_script(path, self._current):
            where = "outside the folder of the playbook" if self._folder is not None else "below the current folder"
            rule = f"only files named {' or '.join(_SUFFIXES)} are, in no folder whose name begins with a dot"
            raise _NotSent(f"the script '{name}' is not sent: {where}, {rule}")
        return path


def _is_script(path: Path, folder: Path) -> bool:
    return path.suffix in _SUFFIXES and not _is_hidden(path, folder)


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a part of the path below the folder begins with a dot, as those of keys and settings do."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _content(name: str, path: Path) -> str:
    from ..playbook.scripts import InvalidScripts, as_content

    try:
        return as_content(name, path.read_bytes())
    except OSError as error:
        raise _NotSent(f"the script '{name}' cannot be read: {error.strerror}", CODE) from None
    except InvalidScripts as error:
        raise _NotSent(str(error), CODE) from None
