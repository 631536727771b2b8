"""How large the parts of an event, a state, a claim and a report may be: one table, enforced where each is made.

Sizes are bytes of JSON in UTF-8. What is larger goes by reference where there is a result store to put it into (a
worker's results, a loop's collection), and is refused with the part, its size and the limit everywhere else.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

# -- a value (see playbook.values)

VALUE_DEPTH: Final = 128
# of what a task gives, and of each value that `set` gives. It is less, for the engine puts these into objects and lists
# of its own: deepest in what a suspended frame remembers of an item that is a pipeline
RESULT_DEPTH: Final = VALUE_DEPTH - 16

# -- an event

# of one result; the worker stores what is larger and reports a reference
INLINE_BYTES: Final = 64 * KIB
# of one key that `set` gives, and of all that one event sets, as it stands there: what is larger goes by reference if a
# worker gives it, and both know how
SET_VALUE_BYTES: Final = 64 * KIB
SET_BYTES: Final = 128 * KIB
# of what a worker's `set` gives in all, what goes by reference among it
SET_STORED_BYTES: Final = 64 * MIB
# of a reference as a worker makes it for `ctx`; what is smaller never goes by reference
SET_REF_BYTES: Final = 8 * KIB
# of all of `ctx`, as it stands in the state: of what is by reference, the reference
CTX_BYTES: Final = 1 * MIB
# of what a tool gives beside its result (`http`, `pg`, `py`), and of what is known about the run
EXTRA_BYTES: Final = 64 * KIB
META_BYTES: Final = 64 * KIB
# of where a suspended pipeline goes on
RESUME_BYTES: Final = 256 * KIB
# of a delay of a step's retry or of a wait, in seconds: ten years
DELAY_SECONDS: Final = 10 * 366 * 86400
# of an error, as a step, a loop item or an execution has it
ERROR_BYTES: Final = 32 * KIB
# of what a sub-playbook is started with; what is larger, up to WORKLOAD_BYTES, goes by reference, unless the worker or
# the control plane is of the release that knows none
PAYLOAD_BYTES: Final = 64 * KIB

# -- an execution

# a workload above INLINE_BYTES stands beside the log, up to this
WORKLOAD_BYTES: Final = 3 * MIB
# of the payloads by reference that are read for one commit; it holds one at least
PAYLOADS_BYTES: Final = 8 * MIB
# of the facts that wait in an execution's inbox, those that are read for one commit: how many, and how many bytes they
# have, the last of them with what goes beyond it
INBOX_FACTS: Final = 1000
INBOX_BYTES: Final = 8 * MIB
# of the part of ctx and of earlier outcomes that one command is issued with
SCOPE_BYTES: Final = 1 * MIB
# how deep playbooks may start each other
CHILD_DEPTH: Final = 32
# of what follows from one fact: its events, the work of deciding them (one for each event, each template, and what is
# about ten microseconds of a template's own loops), and what they set and bring along
DECISION_EVENTS: Final = 250_000
DECISION_WORK: Final = 600_000
DECISION_BYTES: Final = 64 * MIB
# how often a step may begin, for those on a cycle; `executor.spec.max_turns` sets another
TURNS: Final = 10_000
# what an execution weighs when it waits beside others; `executor.spec.weight` sets another, from 1 up to the heaviest
WEIGHT: Final = 10
HEAVIEST: Final = 100

# -- a loop

LOOP_ITEMS: Final = 10_000_000
IN_FLIGHT: Final = 10_000
# of a loop that does not say how many of its items may run at once
DEFAULT_IN_FLIGHT: Final = 16
# of what the frames bring that follow from one fact; more follow when one is in
FRAMES_BYTES: Final = 8 * MIB
# a finished loop's results stay in the state up to this; beyond, they are read through the manifest
LOOP_INLINE_BYTES: Final = 16 * KIB
# of the results of one run of a loop that a worker reads for a template; in its memory they are several times as large
LOOP_READ_BYTES: Final = 256 * MIB

# -- an answer

# what a worker is given at once: AWS Lambda takes 6 MB
ANSWER_BYTES: Final = 5_000_000
# of the rows of one page, so that there is room for what an answer has beside them; a page ends before the row that
# would go beyond it, and a row that does so alone leaves out its payload
PAGE_BYTES: Final = 4 * MIB
# with a larger workload, or a larger state, an execution is not run ahead: both travel with each beginning
AHEAD_BYTES: Final = 256 * KIB
