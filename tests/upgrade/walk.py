"""The way of an upgrade: migrate, both releases side by side, back to the old one, forward to the new one.

In each phase the executions end whose gate is named after it, and others begin for this and every later phase; so each
is written by one release, and goes on with the other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.eventually import while_progressing
from tests.log_rules import Finding

from noetl_serverless.hosts.local.ports import free_port

from . import apart, checks, rebuilding
from .alternating import Alternating
from .bed import Bed, Function, Refused, Ticks, stop
from .kind import Kind
from .playbooks import CANCELLED, GIVEN_MUCH, KINDS
from .release import Release
from .store import ALIVE, PHASES, Given, Starts, heads, restore, running

# seconds without a new event of an execution that has to end, after which it is stuck; a timer takes six
STILL = 40.0
PAUSE = 0.2
# numbers of executions of the walk, beyond those in the dump
FIRST = 10_000


class Walk:
    """`kinds`: what is started in each phase, beside what the dump brings."""

    def __init__(
        self, bed: Bed, old: Release, new: Release, kinds: Sequence[Kind] = KINDS, say: Callable[[str], None] = print
    ) -> None:
        self.bed, self.old, self.new = bed, old, new
        self.findings: list[Finding] = []
        self._kinds = kinds
        self._say = say
        self._starts = Starts(bed, FIRST)
        self._cancelled: set[str] = set()

    @property
    def given(self) -> list[Given]:
        return [*self._manifest.started, *self._starts.given]

    def run(self) -> list[Finding]:
        """One phase after the other, until one finds something: what comes after would follow from that."""
        try:
            for _ in self._phases():
                self.findings += checks.exceptions(self.bed)
                if self.findings:
                    break
        except RuntimeError as error:
            self._found("", "a function does not run", str(error))
        return self.findings

    def run_at_once(self) -> list[Finding]:
        """In one phase: all gates open, each request to the other release's control plane than the last; the audit."""
        self._begin()
        self.bed.effects.open.update(PHASES)
        with self._side_by_side() as (planes, ports):
            old_url, new_url = (plane.url for plane in planes)
            self.findings += apart.cancel(self.bed, old_url, new_url, self.given)
            apart.retry_late(self.bed, planes[1].url, self.given)
            for phase, plane in zip(PHASES, itertools.cycle(planes), strict=False):
                self._report(phase, plane.url)
            with self._alternating(planes) as url, self._workers((self.old, url, ports[0]), (self.new, url, ports[1])):
                self._settle("at once", self.given, itertools.cycle([plane.url for plane in planes]))
                self._look(planes)
                self.findings += checks.exceptions(self.bed)
                self.findings += checks.everything(self.bed, planes[1].url, self.given, self._manifest)
        return self.findings

    def _phases(self) -> Iterator[None]:
        self._begin()
        self._say("restored and migrated")
        with self._side_by_side() as (planes, ports):
            old_url, new_url = (plane.url for plane in planes)
            self.findings += apart.cancel(self.bed, old_url, new_url, self.given)
            with self._workers((self.old, planes[1].url, ports[0]), (self.new, planes[0].url, ports[1])):
                self._phase("crossed", planes)
            self._look(planes)
            yield
            with self._alternating(planes) as url, self._workers((self.old, url, ports[0]), (self.new, url, ports[1])):
                self._phase("alternating", planes)
            self._look(planes)
        yield
        for phase, release in (("back", self.old), ("forward", self.new)):
            with self._alone(release) as plane:
                if release is self.new:
                    apart.retry_late(self.bed, plane.url, self.given)
                self._phase(phase, [plane])
                self._look([plane])
                if release is self.new:
                    self.findings += rebuilding.all_anew(self.bed, plane.url)
                    self.findings += checks.everything(self.bed, plane.url, self.given, self._manifest)
            yield

    def _begin(self) -> None:
        """The store as the older release has left it, migrated; and what the newer has set apart since."""
        self._manifest = restore(self.bed)
        self.new.migrate(self.bed.database_url)
        functions = self.bed.control_planes(self.new, worker_url=f"http://127.0.0.1:{free_port()}")
        try:
            # which the store of before does not hold
            self.bed.register(functions[0].url, GIVEN_MUCH.texts)
            apart.set_apart(self.bed, functions[0].url, self.new, self._starts)
        finally:
            stop(functions)

    # -- who runs

    @contextmanager
    def _side_by_side(self) -> Iterator[tuple[list[Function], tuple[int, int]]]:
        """Both control planes and both reconcilers; each invokes the worker of the other release."""
        ports = free_port(), free_port()
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        planes: list[Function] = []
        reconcilers: list[Function] = []
        try:
            planes += self.bed.control_planes(self.old, worker_url=urls[1])
            planes += self.bed.control_planes(self.new, worker_url=urls[0])
            reconcilers += self.bed.reconcilers((self.old, planes[0].url, urls[1]), (self.new, planes[1].url, urls[0]))
            with Ticks(self.bed, reconcilers):
                yield planes, ports
        finally:
            stop([*planes, *reconcilers])

    @contextmanager
    def _workers(self, *pairs: tuple[Release, str, int]) -> Iterator[None]:
        workers = self.bed.workers(*pairs)
        try:
            with Ticks(self.bed, workers):
                yield
        finally:
            stop(workers)

    @contextmanager
    def _alternating(self, planes: Sequence[Function]) -> Iterator[str]:
        proxy = Alternating([plane.url for plane in planes])
        try:
            yield proxy.url
        finally:
            proxy.close()

    @contextmanager
    def _alone(self, release: Release) -> Iterator[Function]:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        functions = self.bed.control_planes(release, worker_url=url)
        try:
            plane = functions[0].url
            functions += self.bed.workers((release, plane, port))
            functions += self.bed.reconcilers((release, plane, url))
            with Ticks(self.bed, functions):
                yield functions[0]
        finally:
            stop(functions)

    # -- what they do

    def _phase(self, name: str, planes: Sequence[Function]) -> None:
        """Start what begins now, by one control plane after the other; open the gate; wait for what is to end."""
        began = time.monotonic()
        urls = itertools.cycle([plane.url for plane in planes])
        self.bed.effects.open.add(name)
        # a client of either release; a worker that has held its command since before the upgrade
        self._report(name, planes[-1 if name == "crossed" else 0].url)
        for gate in PHASES[PHASES.index(name) :]:
            for kind in self._kinds:
                self._try(name, partial(self._start, urls, kind, gate, name))
        ending = [given for given in self.given if given.gate == name or given.gate == "now"]
        self._settle(name, ending, urls)
        self._say(f"{name}: {len(ending)} executions ended after {time.monotonic() - began:.1f} s")

    def _report(self, phase: str, url: str) -> None:
        for lease in self._manifest.leases:
            if lease["gate"] == phase:
                outcome = {name: lease[name] for name in ("execution_id", "command_id", "fence")}
                outcome |= {"status": "done", "data": {"v": lease["n"]}}
                body = {"worker_id": ALIVE, "outcomes": [outcome]}
                answer = self.bed.call(url, "POST", "/api/commands/report", body, role="worker")
                if answer["results"][0]["status"] != "accepted":
                    self._found(
                        lease["execution_id"], "a lease of before the upgrade is refused", str(answer["results"])
                    )

    def _settle(self, phase: str, ending: Sequence[Given], urls: Iterator[str]) -> None:
        """Wait until all of these have ended; cancel those that wait for it. What stands still is stuck."""
        ids = [given.execution_id for given in ending]
        lasts = while_progressing(lambda: heads(self.bed, running(self.bed, ids)), STILL)
        while (left := running(self.bed, ids)) and lasts():
            for given in ending:
                if given.kind == CANCELLED.name and given.execution_id in left and given.n in self.bed.effects.asked:
                    self._cancel(given, next(urls))
            time.sleep(PAUSE)
        for given in ending:
            if given.execution_id in left:
                self._found(
                    given.execution_id, f"it does not end in the phase {phase!r}", checks.stuck(self.bed, given)
                )

    def _cancel(self, given: Given, url: str) -> None:
        if given.execution_id not in self._cancelled:
            self._cancelled.add(given.execution_id)
            path = f"/api/executions/{given.execution_id}/cancel"
            self._try(given.execution_id, lambda: self.bed.call(url, "POST", path, {"reason": "enough"}))

    def _look(self, planes: Sequence[Function]) -> None:
        """What people see of it, by each control plane that runs."""
        for plane in planes:
            self.findings += checks.readable(self.bed, plane.url, plane.release.name, self._manifest)
            ended = [given for given in self.given if given.execution_id not in running(self.bed, [given.execution_id])]
            self.findings += apart.told(self.bed, plane.url, plane.release.name, ended)
            if plane.release is self.old:
                self.findings += rebuilding.refused(self.bed, plane.url, ended)
                ended = [given for given in ended if given.kind not in apart.BEYOND]
            self.findings += checks.valid(self.bed, plane.url, plane.release.name, ended, self._manifest)

    def _start(self, urls: Iterator[str], kind: Kind, gate: str, phase: str) -> None:
        self._starts(next(urls), kind, gate, phase)

    def _try(self, id: str, what: Callable[[], Any]) -> None:
        try:
            what()
        except Refused as error:
            self._found(id, "a client is turned away", str(error))

    def _found(self, id: str, rule: str, detail: str) -> None:
        self.findings.append(Finding(id, rule, detail))
