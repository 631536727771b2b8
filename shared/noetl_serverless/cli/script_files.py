"""The scripts of a playbook that are files beside it."""

from __future__ import annotations

from pathlib import Path

from .failure import WrongUse


def with_script_files(text: str, file: str) -> str:
    """The text of a playbook with the files that its tasks name as scripts, which are below the folder of `file`, or
    else below the current one. WrongUse if one cannot be read; a text that is no playbook is left as it is."""
    if "script" not in text:
        return text
    from ..errors import InvalidPlaybook
    from ..playbook.load import read_playbook
    from ..playbook.scripts import scripts_of, with_scripts

    try:
        document = read_playbook(text)
    except InvalidPlaybook:
        return text
    folder = Path.cwd() if file == "-" else Path(file).resolve().parent
    scripts = dict(document.scripts)
    for _, script in scripts_of(document.root):
        if script.type == "file" and script.location not in scripts:
            scripts[script.location] = _read(folder, script.location, file)
    return text if scripts == document.scripts else with_scripts(text, scripts)


def _read(folder: Path, name: str, file: str) -> str:
    from ..playbook.scripts import InvalidScripts, as_content

    path = (folder / name).resolve()
    here = Path.cwd().resolve()
    if not path.exists() and (here / name).is_file():
        # older playbooks name their scripts from the root of their repository
        folder, path = here, (here / name).resolve()
    if not path.is_relative_to(folder):
        raise WrongUse(f"{file}: the script '{name}' is outside the folder of the playbook, {folder}")
    try:
        return as_content(name, path.read_bytes())
    except OSError as error:
        raise WrongUse(f"{file}: the script '{name}' cannot be read: {error.strerror}") from None
    except InvalidScripts as error:
        raise WrongUse(f"{file}: {error}") from None
