"""A child of the Python pool: runs one piece of code after another, all of one execution, until its socket closes.

Both ways a frame is 4 bytes of length, big-endian, and that much: a request is as in `compiled_code`, with {"code",
"input", "pure"} and, where the code has or reads them, {"libs", "input_names", "context"}; a reply is JSON, {"data"},
or {"error", "py"}, or {"file": {"bytes", "rows"}} for a table that was written to a file, or {"json": its size} for
data that was, with "spent": true if this child must not be used again, "mb": by how much its memory has grown if that
is much, or an empty frame if the code was not begun. `file_frames` describes how files are exchanged. Standard output
and error are a pipe that the parent reads; user code cannot write to the socket by accident.

What is imported here every child has, and every fork copies: a megabyte costs it a tenth of a millisecond. `threading`
alone would double its time, because that module makes new locks after each fork; only code that needs it loads it.
"""

from __future__ import annotations

import _thread
import builtins
import encodings
import errno
import gc
import json
import marshal
import os
import resource
import signal
import struct
import sys

# the one of `signal` converts each result to an enum, and takes eight times as long
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import CodeType, CoroutineType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from ..limits import INLINE_BYTES
from .compiled_code import FILE, framed, read_request
from .confinement import die_with_parent, drop_privileges, limit_files
from .given_names import NotImported, arguments_of, given_names, may_be_table, may_declare_tables

if TYPE_CHECKING:
    from .child_tables import Given

_MAX_CACHED_CODES = 256
_MAX_MESSAGE_CHARACTERS = 2000
_MAX_TRACEBACK_CHARACTERS = 8000
# how many files of a call are removed; a process with more is replaced, in the background
MAX_LEFTOVER_FILES = 1000
# growth of a child's memory that its parent should know of, in MB
_LARGE_MB = 16
# a reply of more goes into a file, except for what is not data in it
_LARGE_BYTES = 2**20
_DATA, _DATA_END = b'{"data":', b"}"
# macOS has no real-time signals
_REAL_TIME = getattr(signal, "SIGRTMIN", signal.NSIG)
# macOS counts in bytes
_PEAK_UNITS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10
# a flag of code that is a function's; `inspect` would have to be loaded for its name
_OPTIMIZED = 1
# of a request: code, input, pure
_USUAL_FIELDS = 3


def serve(channel: int, runner: Runner, prepare: Callable[[], object] | None = None) -> NoReturn:
    """`channel`: the descriptor of a socket; `prepare`: called before the first code runs."""
    reusable = True
    runner.channel = channel
    while True:
        received = receive(channel)
        if received is None:
            os._exit(0)
        if prepare is not None:
            prepare()
            prepare = None
        else:
            reusable = reusable and runner.clean_up()
        send(channel, *(runner.answer(received) if reusable else ()))
        if runner.is_shared:
            # what refers to itself would count against the memory of the next execution's code
            gc.collect()


def freeze() -> None:
    """Let everything that is loaded live as long as the process, untouched by the garbage collection."""
    # output reaches the parent line by line, so that the output of a killed child is not lost
    sys.stdout.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    sys.argv = [""]
    gc.collect()
    gc.freeze()


class MemoryLimit:
    """The limit on private memory, lifted while JSON is read or written and nothing else is done.

    orjson reserves a multiple of the memory that it uses, and aborts the process when it cannot. RLIMIT_DATA, not
    RLIMIT_AS: libraries such as pyarrow or duckdb reserve far more address space than they ever use.
    """

    def __init__(self, megabytes: int) -> None:
        self._bytes = megabytes * 1024 * 1024

    def set(self) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (self._bytes, resource.RLIM_INFINITY))

    # as a context manager, in which the limit is lifted

    def __enter__(self) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def __exit__(self, *_: object) -> None:
        self.set()


def receive(channel: int) -> bytearray | None:
    """One frame; None when the parent is gone."""
    first = os.read(channel, 65536)
    while first and len(first) < 4:
        more = os.read(channel, 65536)
        first = first + more if more else b""
    if not first:
        return None
    (length,) = struct.unpack_from(">I", first)
    frame = bytearray(length)
    at = len(first) - 4
    frame[:at] = first[4:]
    with memoryview(frame) as view:
        while at < length:
            count = os.readv(channel, [view[at:]])
            if not count:
                return None
            at += count
    return frame


def send(channel: int, *parts: bytes | memoryview) -> None:
    """One frame, of these parts."""
    for content in framed(*parts):
        _write(channel, content)


def _write(channel: int, content: bytes | memoryview) -> None:
    written = os.write(channel, content)
    while written < len(content):
        written += os.write(channel, memoryview(content)[written:])


class Runner:
    """Compiles and runs code, and restores the process afterwards. `settle` has to be called in the process that it
    runs in."""

    def __init__(self, memory: MemoryLimit) -> None:
        import orjson

        from noetl_serverless.playbook.values import InvalidValue
        from noetl_serverless.tools.encoding import encode_result

        self.loads, self.dumps, self.encode, self.invalid = orjson.loads, orjson.dumps, encode_result, InvalidValue
        # in which JSON is read and written
        self.memory: AbstractContextManager[None] = memory
        self.pid = os.getpid()
        self.channel = -1
        self.inline_bytes = INLINE_BYTES
        # whether the last code was given, or has returned, a table: libraries are loaded for that
        self.has_tables = False
        self.codes: dict[str, CodeType] = {}
        # whether the last code was pure, and so the next one may be of another execution
        self.is_shared = False
        self.environ = dict(os.environ)
        self.path = list(sys.path)
        self.stdout, self.stderr = sys.stdout, sys.stderr
        self.recursion = sys.getrecursionlimit()
        # without the real-time signals: each handler adds a tenth of a microsecond to every call
        self.handlers = {int(number): getsignal(number) for number in signal.valid_signals() if number < _REAL_TIME}

    def settle(self, folder: str) -> None:
        """Make `folder` the working folder of this process."""
        self.folder = folder
        self.pid = os.getpid()
        # of a process that was not forked, that of its parent is included, which had the same memory until it began
        self.peak = _peak_mb()
        os.chdir(folder)
        os.environ["HOME"] = os.environ["TMPDIR"] = folder
        self.environ["HOME"] = self.environ["TMPDIR"] = folder
        self.encoded = os.environ._data.copy()  # type: ignore[attr-defined]
        self.codecs = _known_codecs()

    def answer(self, received: bytearray) -> tuple[bytes | memoryview, ...]:
        """The parts of the reply to a request."""
        code = ""
        self.is_shared = False
        self.inline_bytes = INLINE_BYTES
        module = ModuleType("__main__")
        try:
            with self.memory:
                compiled, content = read_request(received)
                fields = self.loads(content)
                del received, content
            code, self.is_shared = fields["code"], fields.get("pure", False)
            value = self._run(code, compiled, fields, module)
            reply = self.encode(value, self.memory, self._with_table)
            value = fields = None
        except MemoryError as error:
            # the frames in the traceback keep the objects that were made so far
            error.__traceback__ = None
            module.__dict__.clear()
            reply = self._failure("python.memory", "out of memory: the limit of this process is reached", None, True)
        except self.invalid as error:
            reply = self._failure("value.invalid", f"the result cannot be stored: at {error}", None, kind="value")
        except NotImported as error:
            reply = self._exception(code, error.__cause__ or error, "python.import", f"{error}: ")
        except BaseException as error:
            reply = self._of_table(error) or self._exception(code, error)
        # a function defined by the code and its globals refer to each other: release what may be large
        module.__dict__.clear()
        # output that is still buffered belongs to this call
        sys.stdout, sys.stderr = self.stdout, self.stderr
        with suppress(Exception):
            self.stdout.flush()
        if os.getpid() != self.pid:
            # a forked process that the code did not end
            os._exit(0)
        if len(reply) > _LARGE_BYTES and reply.startswith(_DATA):
            reply = self._in_file(reply)
        # a codec that was looked for, and was not found because there was no memory, say, is never found again
        is_spent = _thread._count() > 0 or (self.is_shared and _known_codecs() != self.codecs)
        if self.has_tables:
            is_spent, self.has_tables = is_spent or self.is_shared, False
        more = b',"spent":true' if is_spent and not reply.endswith(b'"spent":true}') else b""
        if (grown := _peak_mb() - self.peak) >= _LARGE_MB:
            more += b',"mb":%d' % grown
        return (memoryview(reply)[:-1], more, b"}") if more else (reply,)

    def _run(self, code: str, marshalled: bytes, fields: dict[str, Any], module: ModuleType) -> Any:
        compiled = self.codes.get(code)
        if compiled is None:
            if len(self.codes) >= _MAX_CACHED_CODES:
                self.codes.pop(next(iter(self.codes)))
            compiled = marshal.loads(marshalled) if marshalled else _compiled(code)
            self.codes[code] = compiled
        given, tables = {}, None
        if len(fields) > _USUAL_FIELDS:
            tables = self._tables_of(fields, compiled)
            given = given_names(fields)
        inputs, names = fields["input"], module.__dict__
        names.update(given)
        names.update(inputs)
        # the code's own module is `__main__`, for libraries that look up a class or a function by its module
        sys.modules["__main__"] = module
        if compiled.co_flags & _OPTIMIZED:
            # as `exec` does: libraries in C import modules by them
            names["__builtins__"] = builtins.__dict__
            value = _finished(FunctionType(compiled, names)())
            if value is not ...:
                return value
        else:
            exec(compiled, names)
        if "result" in names and not ("result" in inputs and names["result"] is inputs["result"]):
            return names["result"]
        entry = names.get("main")
        if callable(entry) and getattr(getattr(entry, "__code__", None), "co_filename", None) == FILE:
            arguments = arguments_of(entry.__code__, inputs, given) if given else inputs
            if tables is not None or (entry.__annotations__ and may_declare_tables(entry.__annotations__, names)):
                arguments = self._arguments(entry, arguments, tables)
            return _finished(entry(**arguments))
        return names.get("result")

    # -- files and tables

    def _tables_of(self, fields: dict[str, Any], compiled: CodeType) -> Given | None:
        """Put what is in files, and the tables of the input and of the context, in their places."""
        self.inline_bytes = fields.get("inline_bytes", INLINE_BYTES)
        descriptors: list[int] = []
        if "files" in fields or "texts" in fields:
            from noetl_serverless.tools.child_files import given_files

            descriptors = given_files(self.channel)
        if "texts" in fields:
            self._read_texts(fields["texts"], descriptors, fields["input"])
        if "files" not in fields and "tables" not in fields:
            return None
        from noetl_serverless.tools.child_tables import given_by

        self.has_tables = True
        if "files" in fields:
            # its parent has chosen a child of its execution
            self.is_shared = False
        tables = given_by(fields, descriptors)
        tables.place(fields, compiled)
        return tables

    def _read_texts(self, texts: list[tuple[str, int, int]], descriptors: list[int], inputs: dict[str, Any]) -> None:
        """`descriptors`: theirs are the last ones, which are taken off."""
        from noetl_serverless.tools.child_files import NoFile, read_text

        if len(descriptors) < len(texts):
            raise NoFile(errno.EMFILE, os.strerror(errno.EMFILE))
        with self.memory:
            for name, start, end in reversed(texts):
                inputs[name] = read_text(descriptors.pop(), start, end)

    def _in_file(self, reply: bytes) -> bytes:
        """The reply whose data is in a file; itself if there is no room for one."""
        from noetl_serverless.tools import child_files

        try:
            size = child_files.written(self.channel, memoryview(reply)[len(_DATA) : -len(_DATA_END)])
        except OSError:
            return reply
        return b'{"json":%d}' % size

    def _arguments(self, main: FunctionType, arguments: dict[str, Any], tables: Given | None) -> dict[str, Any]:
        """Those of `main`, as it declares them."""
        from noetl_serverless.tools.child_tables import Given

        self.has_tables = True
        return (tables or Given()).for_main(main, arguments)

    def _with_table(self, value: Any) -> bytes | None:
        """The reply for a value that is a table or has one in a field; None for any other."""
        if not (may_be_table(value) or (isinstance(value, dict) and any(map(may_be_table, value.values())))):
            return None
        if os.getpid() != self.pid:
            # a forked process that the code did not end
            os._exit(0)
        from noetl_serverless.tools import child_files, child_tables

        self.has_tables = True
        return child_tables.reply(value, self.inline_bytes, child_files.FilesOfParent(self.channel), self.memory)

    def _of_table(self, error: BaseException) -> bytes | None:
        """The reply for an error of a table's; None for any other."""
        if not self.has_tables:
            return None
        from noetl_serverless.tables.table import InvalidTable
        from noetl_serverless.tools.child_tables import NoRoom, WrongInput

        if isinstance(error, WrongInput):
            return self._failure("python.input", str(error), None)
        if isinstance(error, InvalidTable):
            return self._failure("python.input", f"a table of the input cannot be read: {error}", None)
        if isinstance(error, NoRoom):
            return self._failure("python.file", f"the table that is returned cannot be kept: {error.strerror}", None)
        return None

    def _exception(
        self, code: str, error: BaseException, error_code: str = "python.exception", before: str = ""
    ) -> bytes:
        """`before`: what the message begins with."""
        import linecache
        import traceback

        name = type(error).__name__
        try:
            text = str(error)
        except Exception:
            text = "(its message could not be read)"
        linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
        try:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _own(frame.filename)]
            shown = "".join(traceback.format_list(frames)) + "".join(traceback.format_exception_only(error))
        finally:
            # a warning in code that runs later would be shown with a line of this
            linecache.cache.pop(FILE, None)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == FILE), None)
        if isinstance(error, SyntaxError) and error.filename == FILE:
            line = error.lineno
        details = {"exception": name, "traceback": _last_lines(shown), "line": line}
        message = f"{before}{name}: {text}" if text else f"{before}{name}"
        return self._failure(error_code, message, details)

    def _failure(
        self, code: str, message: str, py: dict[str, Any] | None, spent: bool = False, kind: str = "python"
    ) -> bytes:
        error = {"kind": kind, "code": code, "retryable": False, "message": _clean(message[:_MAX_MESSAGE_CHARACTERS])}
        body: dict[str, Any] = {"error": error}
        if py:
            body["py"] = {**py, "exception": _clean(py["exception"]), "traceback": _clean(py["traceback"])}
        if spent:
            body["spent"] = True
        with self.memory:
            return self.dumps(body)

    def clean_up(self) -> bool:
        """Undo what one piece of code may have left behind for the next; returns whether that succeeded."""
        try:
            self._clean_up()
        except BaseException:
            # its folder is gone, its standard output closed, a handler of its own has raised, ...
            return False
        return True

    def _clean_up(self) -> None:
        # an alarm would kill the process during a later call
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        # and a handler would raise in the middle of one
        for number, handler in self.handlers.items():
            if getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.setrecursionlimit(self.recursion)
        sys.stdout.flush()
        # as it is stored: to compare os.environ decodes all of it
        if os.environ._data != self.encoded:  # type: ignore[attr-defined]
            os.environ.clear()
            os.environ.update(self.environ)
        if sys.path != self.path:
            sys.path[:] = self.path
        os.chdir(self.folder)
        remove_content(self.folder, MAX_LEFTOVER_FILES)


def _last_lines(traceback: str) -> str:
    """Those that fit; of a longer line its beginning, since its end may be that of a secret, by which none is
    recognized."""
    if len(traceback) <= _MAX_TRACEBACK_CHARACTERS:
        return traceback
    fitting = traceback[-_MAX_TRACEBACK_CHARACTERS:].partition("\n")[2]
    return fitting or traceback.rstrip("\n").rpartition("\n")[2][:_MAX_TRACEBACK_CHARACTERS]


def _compiled(code: str) -> CodeType:
    try:
        return compile(code, FILE, "exec", dont_inherit=True)
    except SyntaxError:
        # it is the body of a function, or this fails again
        from noetl_serverless.playbook.python_body import compile_text

        try:
            return compile_text(code)
        except SyntaxError as error:
            # without the engine's frames
            raise error.with_traceback(None) from None


def _finished(value: Any) -> Any:
    if not isinstance(value, CoroutineType):
        return value
    import asyncio

    return asyncio.run(value)


def remove_content(folder: str, limit: int) -> int:
    """Remove the contents of a folder; returns how many more files may be removed. Raises OSError, also if there are
    more than `limit`, because the next call waits for this and its time runs."""
    with os.scandir(folder) as entries:
        for entry in entries:
            limit -= 1
            if limit < 0:
                raise OSError(f"{folder}: too many files")
            if entry.is_dir(follow_symlinks=False):
                limit = remove_content(entry.path, limit)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
    return limit


def _peak_mb() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _PEAK_UNITS_PER_MB


def _known_codecs() -> int:
    """How many have been looked for, whether they were found or not."""
    return len(encodings._cache)


def _own(path: str) -> bool:
    return path.startswith(_PACKAGE)


# as its frames name it, which was perhaps compiled elsewhere
_PACKAGE = os.path.dirname(os.path.dirname(_own.__code__.co_filename)) + os.sep


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8", "replace")


def main() -> None:
    """A child that is started by itself: sends an empty object when it is ready. The argument is JSON: {"channel":
    descriptor of a socket, "folder", "memory_mb", "parent": pid}."""
    options = json.loads(sys.argv[1])
    channel = options["channel"]
    os.set_inheritable(channel, False)
    die_with_parent(options["parent"])
    drop_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_files()
    memory = MemoryLimit(options["memory_mb"])
    runner = Runner(memory)
    freeze()
    memory.set()
    runner.settle(options["folder"])
    send(channel, b"{}")
    serve(channel, runner)
