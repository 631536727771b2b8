"""Turns the text of a playbook, or of another document of the catalog, into its catalog entry."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from ..errors import Fault, InvalidPlaybook
from ..playbook.document import plain_data
from ..playbook.faults import Faults, problem
from ..playbook.load import LoadedPlaybook, read_playbook
from ..playbook.pools import Pools
from ..store.catalog import NewResource
from ..tools.plans import known_kinds, load_checked

if TYPE_CHECKING:
    from ..playbook.called_inputs import CalledPlaybook

# a playbook has colons, which base64 does not have
BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


def document_of(
    content: str,
    *,
    strict: bool = False,
    is_local: bool = True,
    pools: Pools | None = None,
    trigger_sources: Collection[str] | None = None,
) -> NewResource:
    """Raises InvalidPlaybook with all faults of the playbook itself and of its tools' fields; `strict`: older forms are
    faults, too, instead of warnings; `is_local`: it is registered on a stack on one machine; `pools`: those of the
    deployment, in which its steps have to be able to run; `trigger_sources`: what triggers may listen to there, if that
    is known."""
    # needed when something is registered
    from ..tools.resources import kind_of

    text = as_text(content)
    if kind_of(text) is not None:
        return _resource_of(text)
    loaded = load_checked(text, strict=strict)
    executor = loaded.playbook.executor
    if executor is not None and executor.profile == "local" and not is_local:
        message = "profile: local is for a stack on one machine; here, write profile: auto"
        fault = loaded.document.fault(message, ("executor", "profile"), "playbook.not_supported")
        raise InvalidPlaybook(str(fault), faults=[fault])
    if pools is not None:
        pools.check(loaded.plan, loaded.document).raise_if_any()
    if trigger_sources is not None:
        _check_sources(loaded, trigger_sources)
    plan, root = loaded.plan, plain_data(loaded.document.root)
    return NewResource(
        path=plan.path,
        kind=root["kind"],
        content=text,
        hash=plan.hash,
        meta=root["metadata"],
        payload=dict(plan.workload),
        steps=len(plan.workflow),
        warnings=(*loaded.document.warnings, *_unread_inputs(loaded)),
        calls=_calls_of(loaded),
        triggers=tuple(plan.triggers.values()),
    )


def _resource_of(text: str) -> NewResource:
    from ..tools.resources import kind_of_document, load_resource

    document = read_playbook(text)
    try:
        loaded = load_resource(document, kinds=known_kinds())
    except InvalidPlaybook as invalid:
        invalid.title = f"The document of kind {kind_of_document(document)} is not valid"
        raise
    return NewResource(
        path=loaded.path,
        kind=loaded.kind,
        content=text,
        hash=loaded.hash,
        meta=loaded.meta,
        payload=loaded.payload,
        warnings=tuple(loaded.document.warnings),
    )


def _calls_of(loaded: LoadedPlaybook) -> tuple[CalledPlaybook, ...]:
    if not any(step.parks for step in loaded.plan.steps.values()):
        return ()
    from ..playbook.called_inputs import calls_of

    return tuple(calls_of(loaded))


def _unread_inputs(loaded: LoadedPlaybook) -> list[Fault]:
    """What triggers give to nothing."""
    if not loaded.playbook.triggers:
        return []
    from ..playbook import trigger_inputs

    faults = Faults(loaded.document)
    trigger_inputs.check(loaded.playbook, loaded.document.root, faults)
    return faults.sorted()


def _check_sources(loaded: LoadedPlaybook, sources: Collection[str]) -> None:
    """Raises InvalidPlaybook for a trigger that would wait here for ever."""
    faults = []
    for index, trigger in enumerate(loaded.plan.triggers.values()):
        source = trigger.source.partition(":")[0]
        if trigger.kind in ("message", "object") and source not in sources:
            key = "source" if trigger.kind == "message" else "url"
            message = f"this deployment cannot listen to {source}; it can to {', '.join(sorted(sources))}"
            faults.append(loaded.document.fault(message, ("triggers", index, key), "playbook.not_supported"))
    if faults:
        raise problem(faults)


def as_text(content: str) -> str:
    """The YAML text, decoded if it came in base64."""
    if not BASE64.fullmatch(content):
        return content
    try:
        return base64.b64decode("".join(content.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return content
