"""Maximum sizes of the parts of an event, a state, a claim and a report, each enforced where the part is made.

Sizes are bytes of JSON in UTF-8. A larger value goes by reference where a result store is available (a worker's
results, a loop's collection). Everywhere else it is refused with an error that names the part, its size and the limit.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

# -- a value (see playbook.values)

VALUE_DEPTH: Final = 128
# a task's result, and each value that `set` assigns. Smaller than VALUE_DEPTH because the engine nests these in objects
# and lists of its own, most deeply in the resume data of a suspended frame whose item is a pipeline
RESULT_DEPTH: Final = VALUE_DEPTH - 16

# -- an event

# one result; the worker stores a larger one and reports a reference
INLINE_BYTES: Final = 64 * KIB
# one key that `set` assigns, and all keys that one event sets, as written in the event. A larger value that a worker
# sets goes by reference, if both the worker and the control plane support it
SET_VALUE_BYTES: Final = 64 * KIB
SET_BYTES: Final = 128 * KIB
# all that a worker's `set` assigns, including values by reference
SET_STORED_BYTES: Final = 64 * MIB
# a reference that a worker makes for `ctx`; a smaller value never goes by reference
SET_REF_BYTES: Final = 8 * KIB
# all of `ctx` as kept in the state; a value by reference counts as its reference
CTX_BYTES: Final = 1 * MIB
# what a tool returns in addition to its result (`http`, `pg`, `py`), and the metadata of the run
EXTRA_BYTES: Final = 64 * KIB
META_BYTES: Final = 64 * KIB
# the resume data of a suspended pipeline
RESUME_BYTES: Final = 256 * KIB
# the delay of a step's retry or of a wait, in seconds: ten years
DELAY_SECONDS: Final = 10 * 366 * 86400
# the latest instant that is waited for, in ms since 1970: the end of the year 8999, since no calendar of Python has the
# year 10000, not even in another time zone
LATEST_MS: Final = 221_845_392_000_000 - 1
# the error of a step, a loop item or an execution
ERROR_BYTES: Final = 32 * KIB
# the payload that a sub-playbook is started with; a larger one, up to WORKLOAD_BYTES, goes by reference, unless the
# worker or the control plane is of the previous release, which does not support this
PAYLOAD_BYTES: Final = 64 * KIB

# -- a playbook

# a script that a task names, and all scripts of a playbook: they go with its text to every worker
SCRIPT_BYTES: Final = 1 * MIB
SCRIPTS_BYTES: Final = 2 * MIB

# -- an execution

# a workload; one above INLINE_BYTES is stored beside the log
WORKLOAD_BYTES: Final = 3 * MIB
# an event that a trigger receives, as it is recorded
EVENT_BYTES: Final = 1 * MIB
# and how deep it may be nested
EVENT_DEPTH: Final = RESULT_DEPTH
# how many triggers may lead to an execution, one after the other
TRIGGER_DEPTH: Final = 16
# how many executions triggers may start, one after the other and side by side, in consequence of the end of one that no
# other end has led to
TRIGGER_CHAIN: Final = 10_000
# the payloads by reference that are read for one commit; one is always read
PAYLOADS_BYTES: Final = 8 * MIB
# the facts of an execution's inbox that are read for one commit: their number, and their bytes, which the last fact may
# exceed
INBOX_FACTS: Final = 1000
INBOX_BYTES: Final = 8 * MIB
# the part of ctx and of earlier outcomes that one command is issued with
SCOPE_BYTES: Final = 1 * MIB
# the signals that are kept until a wait takes them: their number, and their bytes. And how many ids of signals are
# known, so that one that is delivered again counts once
SIGNALS: Final = 1000
SIGNALS_BYTES: Final = 256 * KIB
SIGNAL_IDS: Final = 256
# the names of approvals of which an execution knows when they were decided, and by whom
ANSWERED_APPROVALS: Final = 64
# the variables of an execution: their number, the bytes of one and of all, and the characters of a name. And how many
# keys of requests that set some are known, so that one that comes again counts once
VARIABLES: Final = 1000
VARIABLE_BYTES: Final = 64 * KIB
VARIABLES_BYTES: Final = 256 * KIB
VARIABLE_NAME_CHARACTERS: Final = 200
VARIABLE_IDS: Final = 256
# the runs of steps that are noted to be compensated, and the bytes of their results
COMPENSATIONS: Final = 1000
COMPENSATIONS_BYTES: Final = 1 * MIB
# how deeply sub-playbooks may be nested
CHILD_DEPTH: Final = 32
# what follows from one fact: its events; the work of deciding them (a unit for each event, each template and about ten
# microseconds of a template's own loops); and the bytes that they set and carry
DECISION_EVENTS: Final = 250_000
DECISION_WORK: Final = 600_000
DECISION_BYTES: Final = 64 * MIB
# how often a step on a cycle may begin; `executor.spec.max_turns` overrides it
DEFAULT_MAX_TURNS: Final = 10_000
# the weight of an execution that competes with others for workers; `executor.spec.weight` overrides it, from 1 to
# HEAVIEST
WEIGHT: Final = 10
MAX_WEIGHT: Final = 100
# of `concurrency` and `rate`: the limit itself, and the characters of a key
MAX_LIMIT: Final = 10_000
LIMIT_KEY_CHARACTERS: Final = 200

# -- a loop

LOOP_ITEMS: Final = 10_000_000
IN_FLIGHT: Final = 10_000
# for a loop that does not set how many of its items may run at once
DEFAULT_IN_FLIGHT: Final = 16
# for a cursor: how many claims are under way at once
DEFAULT_CURSOR_SLOTS: Final = 8
# what the frames issued for one fact carry; more frames are issued when one has been reported
FRAMES_BYTES: Final = 8 * MIB
# a finished loop's results stay in the state up to this size; larger ones are read through the manifest
LOOP_INLINE_BYTES: Final = 16 * KIB
# the results of one run of a loop that a worker reads for a template; in memory they are several times as large
LOOP_READ_BYTES: Final = 256 * MIB
# of a result that is hashed or decoded at once, which takes less than to have a thread do it
IN_PASSING_BYTES: Final = 128 * KIB

# -- a process of Python code

# a file that it writes, a table that it returns among them: so that none fills a disk, or the memory of a file system
# there, and a table of some gigabytes fits
CHILD_FILE_BYTES: Final = 8 * 1024 * MIB

# -- an answer

# one answer; AWS Lambda allows 6 MB
ANSWER_BYTES: Final = 5_000_000
# the rows of one page, with room left for the rest of the answer. A page ends before the row that would exceed this; a
# single row that exceeds it comes without its payload
PAGE_BYTES: Final = 4 * MIB
# an execution with a larger workload or a larger state is not run speculatively: both are sent with the command that
# begins a speculative run
AHEAD_BYTES: Final = 256 * KIB
# how long a URL that is signed for an object is good for, at most: a week, the limit of both S3 and GCS
SIGNED_URL_SECONDS: Final = 7 * 86400
