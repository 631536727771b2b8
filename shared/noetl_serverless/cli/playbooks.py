"""Plans of playbook files and of catalog entries. Mistakes in a playbook are reported as wrong use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .client import Client
from .failure import WrongUse
from .options import read_text
from .script_files import with_script_files

if TYPE_CHECKING:
    from ..capsule.recording import Recording
    from ..playbook.plan import Plan


def plan_of(text: str, name: str) -> Plan:
    """WrongUse that lists every mistake; `name` stands for the playbook in the message."""
    from ..errors import InvalidPlaybook
    from ..tools.plans import load_plan

    try:
        return load_plan(text)
    except InvalidPlaybook as problem:
        raise WrongUse(f"{name}: {problem.detail}", {**problem.to_dict(), "file": name}) from None


def plan_of_file(file: str) -> Plan:
    return plan_of(with_script_files(read_text(file), file), file)


def plan_of_version(client: Client, path: str, version: int | None) -> Plan:
    """The plan of a registered version; by default the newest."""
    entry = client.post("/api/catalog/resource", {"path": path, "version": version or "latest"})
    return plan_of(entry["content"], f"{path} version {entry['version']}")


def recorded_plan(recording: Recording) -> Plan:
    if not recording.playbook:
        raise WrongUse(f"the playbook that execution {recording.execution_id} ran is no longer in the catalog")
    return plan_of(recording.playbook, f"the playbook of execution {recording.execution_id}")
