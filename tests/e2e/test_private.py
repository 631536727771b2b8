"""What task code can reach of the stack that runs it: none of its secrets, and all that is not the stack's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.stack import Stack

from noetl_serverless.tools.private_folders import is_enforced

pytestmark = pytest.mark.skipif(not is_enforced(), reason="the kernel has no Landlock (Linux 5.19 or later)")

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: prying, path: private/prying}
workload: {home: "", pids: [], postgres_port: 0, nats_port: 0, paths: []}
workflow:
  - step: pry
    tool:
      kind: python
      input:
        home: "{{ workload.home }}"
        pids: "{{ workload.pids }}"
        postgres_port: "{{ workload.postgres_port }}"
        nats_port: "{{ workload.nats_port }}"
        paths: "{{ workload.paths }}"
      code: |
%s
"""

# each attempt has the text that it found, or the error
PRYING = r"""
import ctypes, os, re, socket, struct, subprocess, sys

found = {}

def attempt(name, look):
    try:
        found[name] = {"read": str(look())[:100_000]}
    except Exception as error:
        found[name] = {"error": f"{type(error).__name__}: {error}"}

def read(path):
    with open(path, "rb") as file:
        return file.read(100_000).decode("latin-1").replace("\0", " ")

def linked(path):
    os.symlink(path, "link")
    return read("link")

def moved(path, move):
    move(path, os.path.abspath("moved"))
    return read("moved")

def printed(path):
    done = subprocess.run(["cat", path], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr)
    return done.stdout

def renamed():
    other = home.rstrip("/") + "-away"
    os.rename(home, other)
    os.rename(other, home)
    return "renamed"

def written(path):
    with open(path, "a"):
        return "opened"

secret = os.path.join(home, "secrets.json")
for name in ("secrets.json", "run.json", "ports.json", "stack.lock", "logs/stack.log", "postgres/data/pg_hba.conf"):
    attempt(f"open {name}", lambda: read(os.path.join(home, name)))
attempt("link", lambda: linked(secret))
attempt("hard link", lambda: moved(secret, os.link))
attempt("move", lambda: moved(secret, os.rename))
attempt("rename the folder", renamed)
attempt("write", lambda: written(secret))
attempt("cat", lambda: printed(secret))
attempt("root", lambda: read("/proc/self/root" + secret))

libc = ctypes.CDLL(None, use_errno=True)

def traced(pid):
    for request in (16, 0x4206):
        if libc.ptrace(request, pid, 0, 0) == 0:
            return "attached"
    raise OSError(ctypes.get_errno(), "ptrace")

def memory(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            if "[heap]" in line:
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                mem.seek(begin)
                return mem.read(min(end - begin, 100_000)).decode("latin-1").replace("\0", " ")
    return "no heap"

def opened(pid):
    folder = f"/proc/{pid}/fd"
    return [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]

for pid in (*pids, os.getppid()):
    attempt(f"environ of {pid}", lambda: read(f"/proc/{pid}/environ"))
    attempt(f"memory of {pid}", lambda: memory(pid))
    attempt(f"descriptors of {pid}", lambda: opened(pid))
    attempt(f"folder of {pid}", lambda: read(f"/proc/{pid}/cwd/secrets.json"))
    attempt(f"trace {pid}", lambda: traced(pid))
    attempt(f"signal {pid}", lambda: os.kill(pid, 0) or "sent")

def held():
    # the first four are its input, its output and the channel by which it answers
    names = [name for name in os.listdir("/proc/self/fd") if int(name) > 3]
    return [name for name in names if os.path.exists(f"/proc/self/fd/{name}")]

found["descriptors"] = held()
found["imports"] = [path for path in sys.path if (path + "/").startswith(home.rstrip("/") + "/")]
found["environment"] = dict(os.environ)

def postgres(connect):
    with connect() as server:
        parameters = b"user\0noetl\0database\0noetl\0\0"
        server.sendall(struct.pack(">II", 8 + len(parameters), 196608) + parameters)
        kind, _, method = struct.unpack(">cII", server.recv(9, socket.MSG_WAITALL))
        return f"{kind.decode()} {method}"

def by_path():
    server = socket.socket(socket.AF_UNIX)
    server.connect(os.path.join(home, "postgres", f".s.PGSQL.{postgres_port}"))
    return server

def nats():
    with socket.create_connection(("127.0.0.1", nats_port), 5) as server:
        info = server.recv(65536).decode()
        server.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        return server.recv(65536).decode()

attempt("postgres", lambda: postgres(lambda: socket.create_connection(("127.0.0.1", postgres_port), 5)))
attempt("postgres by its socket", lambda: postgres(by_path))
attempt("nats", nats)

for path in paths:
    attempt(f"other {path}", lambda: read(path))
attempt("own folder", lambda: written("own") + str(os.listdir(".")))
result = found
"""
# what is not refused, and what it must answer: PostgreSQL asks for a password, method 10; NATS refuses
ANSWERED = {"postgres": "R 10", "postgres by its socket": "R 10", "nats": "-ERR 'Authorization Violation'"}


def secrets_of(data: Path) -> list[str]:
    """The texts that must not be found."""
    secrets: dict[str, str] = json.loads((data / "secrets.json").read_text())
    return [value for text in secrets.values() for value in {text, text.partition(":")[2] or text}]


def test_task_code_finds_none_of_the_secrets_of_its_stack(stack: Stack, tmp_path: Path) -> None:
    run = json.loads((stack.data / "run.json").read_text())
    ports = json.loads((stack.data / "ports.json").read_text())
    pids = [run["pid"], *run["pids"].values()]
    file = tmp_path / "prying.yaml"
    file.write_text(PLAYBOOK % "\n".join(f"          {line}" for line in PRYING.splitlines()))
    # a folder that appears beside the stack's after its processes have started
    with tempfile.TemporaryDirectory(prefix="noetl-beside-") as beside:
        (Path(beside) / "data.csv").write_text("not a secret")
        workload = {
            "home": str(stack.data),
            "pids": pids,
            "postgres_port": ports["postgres"],
            "nats_port": ports["nats"],
            "paths": [f"{beside}/data.csv", "/proc/self/status"],
        }
        found: dict[str, Any] = stack.run(file, workload)["result"]
    for secret in secrets_of(stack.data):
        by = [name for name, attempt in found.items() if secret in json.dumps(attempt)]
        assert not by, "task code has found a secret of its stack"
    assert found.pop("descriptors") == [], "task code has inherited descriptors"
    assert found.pop("imports") == [], "task code imports from the folder of its stack"
    assert not [name for name in found.pop("environment") if name.startswith("NOETL")]
    for path in workload["paths"]:
        assert "read" in found.pop(f"other {path}"), f"task code cannot read {path}, which is not the stack's"
    assert "own" in found.pop("own folder")["read"]
    for name, answer in ANSWERED.items():
        attempt = found.pop(name)
        assert attempt.get("read", "").strip().startswith(answer) or "error" in attempt, f"{name}: {attempt}"
    reached = {name: attempt for name, attempt in found.items() if "error" not in attempt}
    assert not reached, "task code has reached what belongs to the stack"
