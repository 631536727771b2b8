"""The parent of the Python children: it has loaded what they need, forks clean ones, and ends them.

Its standard input is a socket to the engine, with a JSON object per message. From the engine: {"fork": how many,
"drop": [pid, ...], "end": [pid, ...]}, of which those to end are reported. To it: {"forked": [pid, ...]} with the
descriptors of each child's socket and of its output, {"failed": how many, "why", "errno"}, and {"ended": pid, "status",
"left"?: path of a folder to remove}. When the socket closes it ends, with all children.

It never has a second thread: a fork would copy locks that the other thread holds. Only on Linux.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from .compiled_code import FILE, CompiledCode, request
from .confinement import adopt_orphans, close_to_inspection, die_with_parent, drop_privileges, limit_files
from .landlock import restrict_self
from .private_folders import PrivateFolders, Rules
from .python_child import MAX_LEFTOVER_FILES, MemoryLimit, Runner, freeze, receive, remove_content, send, serve

_BUFFER = 1 << 20
_MESSAGE = 1 << 16
_LIST = 1 << 15
# where a child finds its socket
_CHANNEL = 3
_RULES = 4
# run so often before the first fork
_WARM_UPS = 50
_WARM_UP = ("result = {'n': n + 1}", "def main(n):\n    return [n]")


@dataclass(slots=True)
class _Folder:
    """Where a child works; the next one gets it emptied."""

    path: str
    identity: tuple[int, int]
    rules: Rules | None


@dataclass(slots=True)
class _Begun:
    """A child that is being forked: descriptors of both ends of its socket and of its output, and its pid, once it has
    one."""

    ours: int
    channel: int
    printed: int
    output: int
    folder: _Folder
    pid: int = 0


@dataclass(slots=True)
class _Child:
    """`folder` is None if a child left this process behind when it ended."""

    pid: int
    folder: _Folder | None = None
    is_dropped: bool = False


class Zygote:
    """`folder`: where the children's folders are made; `private`: what they cannot open."""

    def __init__(self, control: socket.socket, runner: Runner, folder: str, private: PrivateFolders) -> None:
        self.control = control
        self.runner = runner
        self.folder = folder
        self.private = private
        self.pid = os.getpid()
        self._by_pid: dict[int, _Child] = {}
        self._by_descriptor: dict[int, _Child] = {}
        self._free: list[_Folder] = []
        self._made = 0
        self._poll = select.epoll()
        self._poll.register(self.control, select.EPOLLIN)
        # the kernel's list of this process's children, if it is made to have one
        self._listed = -1
        with contextlib.suppress(OSError):
            self._listed = os.open("/proc/thread-self/children", os.O_RDONLY)
        # no descriptor of this process is greater
        self._greatest = max(int(name) for name in os.listdir("/proc/self/fd"))

    def serve(self) -> None:
        """Until the engine has closed its end."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != self.control.fileno():
                    self._on_exit(descriptor)
                elif message := self._receive():
                    self._obey(json.loads(message))
                else:
                    return

    def _receive(self) -> bytes:
        """The next message; empty if the engine is gone."""
        try:
            return self.control.recv(_MESSAGE)
        except ConnectionResetError:
            # it has left messages of this process unread
            return b""

    def end(self) -> None:
        """End all children, and what they have left behind."""
        while pids := self._pids_of_children():
            for pid in pids:
                _kill(pid)
            for pid in pids:
                os.waitpid(pid, 0)
                self._by_pid.pop(pid, None)

    def _obey(self, message: dict[str, Any]) -> None:
        for pid in message.get("drop", ()):
            if child := self._by_pid.get(pid):
                child.is_dropped = True
                _kill(pid)
        for pid in message.get("end", ()):
            if pid in self._by_pid:
                _kill(pid)
        if count := message.get("fork", 0):
            self._fork(count)

    def _report(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        # an engine that is gone is noticed when it is read from
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.control, [json.dumps(message).encode()], descriptors)

    # -- the beginning of a child

    def _fork(self, count: int) -> None:
        """All at once: what this process writes to after a fork is copied, so it does little else between two."""
        begun: list[_Begun] = []
        error: OSError | None = None
        try:
            for _ in range(count):
                begun.append(self._prepare())
            for one in begun:
                one.pid = os.fork()
                if one.pid == 0:
                    self._become_child(one)
        except OSError as failure:
            error = failure
        children = [one for one in begun if one.pid]
        for one in children:
            self._watch(_Child(one.pid, one.folder))
        if children:
            descriptors = [descriptor for one in children for descriptor in (one.ours, one.printed)]
            self._report({"forked": [one.pid for one in children]}, descriptors)
        for one in begun:
            for descriptor in (one.ours, one.channel, one.printed, one.output):
                os.close(descriptor)
            if not one.pid:
                self._free.append(one.folder)
        if error is not None:
            self._report({"failed": count - len(children), "why": str(error), "errno": error.errno})

    def _prepare(self) -> _Begun:
        opened: list[int] = []
        try:
            for endpoint in socket.socketpair():
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                opened.append(endpoint.detach())
            opened += os.pipe()
            ours, channel, printed, output = opened
            self._greatest = max(self._greatest, *opened)
            folder = self._free.pop() if self._free else self._new_folder()
            if folder.rules is not None:
                # so that the child has little to do
                self.private.renew(folder.rules)
                self._greatest = max(self._greatest, folder.rules.descriptor)
            return _Begun(ours=ours, channel=channel, printed=printed, output=output, folder=folder)
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise

    def _become_child(self, begun: _Begun) -> NoReturn:
        folder = begun.folder
        try:
            die_with_parent(self.pid)
            # what its code leaves behind stays below it
            adopt_orphans()
            os.setsid()
            os.dup2(begun.output, 1)
            os.dup2(begun.output, 2)
            os.dup2(begun.channel, _CHANNEL, inheritable=False)
            if folder.rules is not None:
                folder.rules.descriptor = os.dup2(folder.rules.descriptor, _RULES, inheritable=False)
            os.closerange(_CHANNEL + 1 if folder.rules is None else _RULES + 1, self._greatest + 1)
            self.runner.settle(folder.path)
            serve(_CHANNEL, self.runner, None if folder.rules is None else partial(self._confine, folder.rules))
        finally:
            # whatever has been raised: it must not go on as a second zygote
            os._exit(1)

    def _confine(self, rules: Rules) -> None:
        self.private.renew(rules)
        restrict_self(rules.descriptor)
        os.close(rules.descriptor)

    def _watch(self, child: _Child) -> None:
        descriptor = os.pidfd_open(child.pid)
        self._greatest = max(self._greatest, descriptor)
        self._by_pid[child.pid] = self._by_descriptor[descriptor] = child
        self._poll.register(descriptor, select.EPOLLIN)

    def _new_folder(self) -> _Folder:
        path = os.path.join(self.folder, str(self._made))
        self._made += 1
        os.mkdir(path, 0o700)
        found = os.lstat(path)
        return _Folder(path, (found.st_dev, found.st_ino), self.private.rules(path))

    # -- its end

    def _on_exit(self, descriptor: int) -> None:
        child = self._by_descriptor.pop(descriptor)
        del self._by_pid[child.pid]
        self._poll.unregister(descriptor)
        os.close(descriptor)
        # until it is waited for, its pid, which is also its group's, is not reused
        _kill(child.pid)
        _, status = os.waitpid(child.pid, 0)
        self._end_what_is_left()
        if child.folder is None:
            return
        left = self._take_back(child.folder)
        if not child.is_dropped or left:
            report = {"ended": child.pid, "status": os.waitstatus_to_exitcode(status)}
            self._report({**report, "left": left} if left else report)

    def _end_what_is_left(self) -> None:
        """A child keeps what its code has started, until it ends: what has this process as its parent now goes too."""
        for pid in self._pids_of_children():
            if pid not in self._by_pid:
                _kill(pid)
                self._watch(_Child(pid))

    def _pids_of_children(self) -> list[int]:
        """Those that fit: when they have ended, the others are looked for."""
        if self._listed < 0:
            return list(self._by_pid)
        listed = os.pread(self._listed, _LIST, 0)
        return [int(pid) for pid in listed[: listed.rfind(b" ") + 1].split()]

    def _take_back(self, folder: _Folder) -> str | None:
        """Empty the folder of a child for the next; the path of what the engine has to remove instead."""
        try:
            found = os.lstat(folder.path)
            if (found.st_dev, found.st_ino) == folder.identity:
                remove_content(folder.path, MAX_LEFTOVER_FILES)
                self._free.append(folder)
                return None
        except OSError:
            pass
        if folder.rules is not None:
            os.close(folder.rules.descriptor)
        return folder.path


def _kill(pid: int) -> None:
    """Kill a process, with its group if it leads one, as a child does from soon after its begin."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _warm_up(runner: Runner, folder: str) -> None:
    """Do what every child does, until the interpreter has adapted the bytecode to it: what a child does not have to
    write, it does not have to copy."""
    main, environment = sys.modules["__main__"], dict(os.environ)
    ours, channel = socket.socketpair()
    runner.settle(folder)
    with ours, channel:
        for code in _WARM_UP * _WARM_UPS:
            fields = runner.dumps({"code": code, "input": {"n": 1}})
            send(ours.fileno(), *request(CompiledCode(marshal.dumps(compile(code, FILE, "exec"))), fields))
            received = receive(channel.fileno())
            assert received is not None
            send(channel.fileno(), *runner.answer(received))
            receive(ours.fileno())
            runner.clean_up()
            runner.codes.clear()
    sys.modules["__main__"] = main
    os.environ.clear()
    os.environ.update(environment)


def main() -> None:
    """The argument is JSON: {"folder": an empty one, "private": [path, ...], "memory_mb"}."""
    options = json.loads(sys.argv[1])
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    # the channel's place in a child stays taken, so that no other descriptor is there
    while null <= _RULES:
        null = os.dup(null)
    # of this process alone: see `python_forks`
    os.environ.pop("LD_BIND_NOW", None)
    drop_privileges()
    adopt_orphans()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_files()
    private = PrivateFolders(options["private"])
    if not private.separates_processes:
        close_to_inspection()
    memory = MemoryLimit(options["memory_mb"])
    runner = Runner(memory)
    _warm_up(runner, options["folder"])
    freeze()
    memory.set()
    zygote = Zygote(control, runner, options["folder"], private)
    try:
        zygote.serve()
    finally:
        if os.getpid() == zygote.pid:
            zygote.end()
