"""up, down, and runs that bring their own stack."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

# words of a command line -> its status, out, err and json
Command = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_stack_a_command_says_how_to_start_one(noetls: Command) -> None:
    done = noetls("list", "--json")
    assert done.status == 2
    assert done.json["code"] == "cli.no_stack"
    assert "noetls up --detach" in noetls("list").err
    assert noetls("status", "--json").json["status"] == "stopped"
    assert noetls("status").status == 1
    assert (noetls("token").status, noetls("token", "--json").json["code"]) == (2, "cli.no_stack")
    assert noetls("down", "--json").json["was_running"] is False
    assert noetls("run", "a/b", "--no-wait").status == 2


@pytest.mark.parametrize(
    "words",
    [
        ["up"],
        ["up", "--detach"],
        ["run", str(ROOT / "playbooks" / "hello.yaml")],
        ["demo", str(ROOT / "playbooks"), "examples/hello"],
    ],
)
def test_a_data_directory_that_cannot_be_is_refused_in_a_line(noetls: Command, words: list[str]) -> None:
    taken = noetls.data / "taken"  # type: ignore[attr-defined]
    taken.write_text("")
    done = noetls(*words, "--data", str(taken), data=False)
    assert (done.status, done.out) == (2, "")
    assert done.err == f"error: {taken} cannot be the data directory: {taken}: Not a directory\n"


def test_data_survives_down_and_up(noetls: Command) -> None:
    up = noetls("up", "--detach", "--json")
    assert up.status == 0, up.err
    assert up.json["status"] == "running"
    assert noetls("up", "--detach", "--json").json["pid"] == up.json["pid"]
    assert noetls("up").status == 2
    noetls("credential", "set", "kept", "--type", "bearer", "--set", "token=x")
    token = noetls("token").out.strip()
    address = up.json["control_plane_url"].removeprefix("http://")
    assert noetls("token", "--url").out == f"http://noetl:{token}@{address}\n"
    assert noetls("down").status == 0
    assert noetls("status").status == 1
    assert noetls("up", "--detach").status == 0
    assert noetls("token", "--json").json["token"] == token, "clients keep it"
    assert "kept" in {entry["name"] for entry in noetls("credential", "list", "--json").json}


def test_options_that_the_running_stack_does_not_have_are_refused(noetls: Command) -> None:
    up = noetls("up", "--detach", "--workers", "2", "--json")
    assert up.status == 0, up.err
    for same in ([], ["--workers", "2"], ["--workers", "2", "--processes", "together", "--instances", "1"]):
        again = noetls("up", "--detach", *same, "--json")
        assert (again.status, again.json["pid"]) == (0, up.json["pid"])
    refused = noetls("up", "--detach", "--workers", "3", "--processes", "separate", "--instances", "1")
    assert (refused.status, refused.out) == (2, "")
    home = noetls.data  # type: ignore[attr-defined]
    assert refused.err == (
        f"error: a stack already runs on {home} with other options than --workers 3 --processes separate; "
        f"`noetls down --data {home}` stops it, and then they can be given\n"
    )
    assert noetls("up", "--detach", "--workers", "3", "--json").json["code"] == "cli.usage"
    assert noetls("status", "--json").json["pid"] == up.json["pid"]


def test_runs_at_once_share_the_stack_that_one_of_them_starts(noetls: Command) -> None:
    hello = str(ROOT / "playbooks" / "hello.yaml")
    done = []
    threads = [threading.Thread(target=lambda: done.append(noetls("run", hello, "--json"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(run.status, run.json["status"]) for run in done] == [(0, "COMPLETED")] * 3
    assert noetls("status", "--json").json["status"] == "stopped"


def test_in_the_foreground_it_reports_once_and_stops_on_ctrl_c(noetls: Command) -> None:
    argv = [sys.executable, "-m", "noetl_serverless.cli", "up", "--json", "--data", str(noetls.data)]  # type: ignore[attr-defined]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            text += up.stdout.readline()
        assert json.loads(text)["pid"] == up.pid
        assert noetls("status").status == 0
        up.send_signal(signal.SIGINT)
        assert up.stdout.read() == ""
        assert up.wait(60) == 0
    assert noetls("status").status == 1


def test_the_demo_runs_the_flagship_to_its_table(noetls: Command) -> None:
    done = noetls("demo", str(ROOT / "playbooks"), "examples/flight_delays", "--no-stay")
    assert done.status == 0, done.out + done.err
    assert "All airlines" in done.out
    assert "15/15 items" in done.out
    assert "http://127.0.0.1:" in done.out


@pytest.mark.parametrize("own", [True, False], ids=["a stack of its own", "one that runs already"])
def test_down_ends_the_demo_too(noetls: Command, tmp_path: Path, own: bool) -> None:
    (tmp_path / "books" / "data").mkdir(parents=True)
    (tmp_path / "books" / "hello.yaml").write_text((ROOT / "playbooks" / "hello.yaml").read_text())
    if not own:
        assert noetls("up", "--detach").status == 0
    argv = [sys.executable, "-m", "noetl_serverless.cli", "demo", str(tmp_path / "books"), "examples/hello"]
    with subprocess.Popen([*argv, "--data", str(noetls.data)], stdout=subprocess.PIPE, text=True) as demo:  # type: ignore[attr-defined]
        assert demo.stdout is not None
        try:
            assert any("running until Ctrl-C" in line for line in demo.stdout), "the demo did not get so far"
            assert noetls("down", "--json").json["was_running"] is True
            assert demo.wait(10) == 0, "the demo goes on without its stack"
        finally:
            demo.kill()
        assert "the stack was stopped, so the demo ends" in demo.stdout.read()
    assert noetls("status", "--json").json["status"] == "stopped"
