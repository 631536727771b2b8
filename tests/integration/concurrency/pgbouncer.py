"""PgBouncer as a transaction pooler: the one on PATH, else Debian's packages, unpacked without being installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.local.os_user import unprivileged
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres
from noetl_serverless.hosts.local.process import Process, Program, wait_until
from noetl_serverless.store.connection import connect

PACKAGE = "pgbouncer"
# connections to the server for each database: fewer than its clients have, so that they share them
POOL = 5


class NotToBeHad(Exception):
    """There is no PgBouncer on this machine, and none can be fetched."""


class Pooler:
    """One pooler on 127.0.0.1:`port` in front of every database of a server, with its files below `home`."""

    def __init__(self, server: Postgres, home: Path) -> None:
        self.port = free_port()
        self._server = server
        self._home = home

    def start(self) -> Process:
        """Raises NotToBeHad."""
        self._home.mkdir(mode=0o711)
        program, environment = _program(self._home)
        self._write("users.txt", f'"{urlsplit(self._server.url).username}" "{self._server.password}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self._home / "users.txt",
            "pool_mode": "transaction",
            "default_pool_size": POOL,
            "max_client_conn": 200,
            "server_idle_timeout": 5,
        }
        lines = ["[databases]", f"* = host=127.0.0.1 port={self._server.port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        self._write("pgbouncer.ini", "\n".join(lines) + "\n")
        process = Process(
            Program(
                name=PACKAGE,
                argv=[program, str(self._home / "pgbouncer.ini")],
                log=self._home / "pgbouncer.log",
                environment=environment,
                account=unprivileged(),
                # the others wait for clients to leave
                stop_signal=signal.SIGQUIT,
            )
        )
        try:
            wait_until(self._answers, process, 30)
        except BaseException:
            process.stop()
            raise
        return process

    def url_of(self, database_url: str) -> str:
        """The way to the same database through the pooler."""
        return database_url.replace(f":{self._server.port}/", f":{self.port}/")

    def _answers(self) -> bool:
        try:
            with closing(connect(self.url_of(self._server.url), timeout=5)):
                return True
        except Unavailable:
            return False

    def _write(self, name: str, text: str) -> None:
        path, account = self._home / name, unprivileged()
        path.write_text(text)
        path.chmod(0o600)
        if not account.is_current:
            os.chown(path, account.uid, account.gid)


def _program(home: Path) -> tuple[str, dict[str, str]]:
    """What to run, and the environment that it needs."""
    if found := shutil.which(PACKAGE, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return found, {}
    root = home / "root"
    for package in _packages():
        _run("dpkg-deb", "--extract", str(package), str(root))
    libraries = {str(path.parent) for path in root.rglob("*.so*")}
    return str(root / "usr" / "sbin" / PACKAGE), {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def _packages() -> list[Path]:
    """PgBouncer's, and those of the libraries that this machine lacks; fetched once, and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noetl-serverless" / PACKAGE
    cache.parent.mkdir(parents=True, exist_ok=True)
    with open(cache.with_suffix(".lock"), "w") as alone:
        # two test processes want it at once: the second takes what the first has fetched
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not cache.exists():
            with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
                _fetch(Path(folder))
                shutil.copytree(folder, cache)
    return sorted(cache.glob("*.deb"))


def _fetch(folder: Path) -> None:
    _run("apt-get", "download", PACKAGE, folder=folder)
    (package,) = folder.glob("*.deb")
    needs = _run("dpkg-deb", "--field", str(package), "Depends").split(",")
    libraries = [name for name in (need.split()[0] for need in needs) if name.startswith("lib")]
    missing = [name for name in libraries if not _installed(name)]
    if missing:
        _run("apt-get", "download", *missing, folder=folder)


def _installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout == "installed"


def _run(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NotToBeHad(f"no PgBouncer on PATH, and no {command[0]} to fetch it with") from error
    if done.returncode:
        raise NotToBeHad(f"no PgBouncer on PATH, and {' '.join(command[:3])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
