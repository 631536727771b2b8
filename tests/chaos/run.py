"""One run: work and faults side by side, then the audit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

from tests.benchmarks.usage import machine
from tests.log_rules import Finding

from . import checks
from .clocks import SKEW
from .fault_injection import FaultInjector
from .faults import plan
from .report import Report
from .stack import ChaosStack
from .user_data import UserData
from .users import Users, kind_of


def chaos(
    stack: ChaosStack, seed: int, seconds: float, *, rate: float, command: str, say: Callable[[str], None]
) -> Report:
    """`seconds` of faults drawn from `seed`, at most `rate` executions started in each."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    skew = SKEW if stack.library and stack.instances > 1 else 0.0
    report = Report(command, seed, at, machine(), round(seconds / 60, 2), stack.instances, skew)
    data = UserData(stack)
    users = Users(stack, seed, rate)
    faults = plan(seed, seconds, together=stack.is_together)
    say(f"seed {seed}: {len(faults)} faults in {seconds:g} s")
    injector = FaultInjector(stack, faults, say)
    with users.at_work():
        work = threading.Thread(target=injector.inject_all)
        began = time.monotonic()
        work.start()
        while work.is_alive() or time.monotonic() - began < seconds:
            work.join(1.0)
            if not work.is_alive():
                time.sleep(0.1)
    report.count(injector.done)
    say(f"{len(users.accepted)} executions were accepted; waiting for the last to end")
    began = time.monotonic()
    stuck = checks.settle(stack)
    report.settled_s = time.monotonic() - began
    say(f"settled after {report.settled_s:.1f} s; auditing")
    began = time.monotonic()
    report.findings = [*users.findings, *injector.findings, *stuck]
    _audit(stack, users, report)
    report.findings += [*data.claims(), *data.secrets()]
    report.audited_s = time.monotonic() - began
    return report


def _audit(stack: ChaosStack, users: Users, report: Report) -> None:
    for path, status, count in stack.query("SELECT path, status, count(*) FROM noetl.execution GROUP BY path, status"):
        report.executions.setdefault(kind_of(path), {})[status] = count
    report.events = stack.query("SELECT count(*) FROM noetl.event")[0][0]
    found: list[Finding] = report.findings
    there, seen = checks.ends_of(stack), stack.effects.seen
    report.given_up = sum(end.given_up for end in there.values())
    report.effects = len({(effect.execution_id, effect.name) for effect in seen})
    report.requests = len(seen)
    found += checks.ends(users.accepted, there)
    found += checks.effects(users.accepted, there, seen)
    found += checks.kinship(stack)
    found += checks.schedules(stack)
    found += checks.leaks(stack)
    found += checks.logs(stack)
    wrong, orphans = checks.results(stack)
    found += wrong
    report.orphans = asdict(orphans)
    found += checks.collected(stack)
