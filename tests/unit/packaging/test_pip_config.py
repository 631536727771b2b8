"""Real pip prints its configuration, and real uv gets what it says."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from localstack import toolbox

from noetl_serverless.packaging import pip_config as module
from noetl_serverless.packaging.install import InstallFailed, install
from noetl_serverless.packaging.lock import Lock
from noetl_serverless.packaging.pip_config import UnsupportedByUv, pip_config, uv_arguments, uv_environment, uv_pip
from noetl_serverless.packaging.target import Target

ROOT = Path(__file__).parents[3]
Configure = Callable[[str], None]
WHEEL = "wanted-1.0-py3-none-any.whl"
FILES = {
    "wanted.py": "",
    "wanted-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: wanted\nVersion: 1.0\n",
    "wanted-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "wanted-1.0.dist-info/RECORD": "wanted.py,,\n",
}


@pytest.fixture(autouse=True)
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes pip's configuration. Of this machine only /etc/pip.conf counts, which it overrides."""
    path = tmp_path / "pip.conf"
    for name in os.environ:
        if name.startswith(("PIP_", "UV_", "SSL_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
    path.touch()

    def configure(text: str) -> None:
        path.write_text(text)

    return configure


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index with one wheel of `wanted`."""
    folder = tmp_path / "index"
    (folder / "wanted").mkdir(parents=True)
    with zipfile.ZipFile(folder / "wanted" / WHEEL, "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
    (folder / "wanted/index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def environment() -> dict[str, str]:
    return uv_environment(pip_config())


def test_without_a_configuration_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert set(pip_config()) == {"config-file", "quiet", "verbose"}


def test_a_quiet_pip_tells_its_configuration_too(configure: Configure) -> None:
    configure("[global]\nquiet = 2\nindex-url = https://a.example/\n")
    assert environment()["UV_DEFAULT_INDEX"] == "https://a.example/"


def test_a_variable_overrides_the_command_and_this_what_is_global(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("[install]\nindex-url = https://install.example/\n[global]\nindex-url = https://global.example/\n")
    assert environment()["UV_DEFAULT_INDEX"] == "https://install.example/"
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/")
    assert environment()["UV_DEFAULT_INDEX"] == "https://variable.example/"


def test_another_commands_options_and_empty_ones_do_not_count(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("[global]\nindex-url = https://global.example/\n[download]\nindex-url = https://download.example/\n")
    monkeypatch.setenv("PIP_INDEX_URL", "")
    assert environment()["UV_DEFAULT_INDEX"] == "https://global.example/"


def test_many_lines_are_many_values(configure: Configure) -> None:
    configure(
        "[global]\nextra-index-url =\n    https://a.example/\n    https://b.example/\n"
        "find-links =\n    /srv/wheels\n    ~/it's\n    https://c.example/links\n"
    )
    found = environment()
    assert found["UV_INDEX"] == "https://a.example/ https://b.example/"
    assert found["UV_FIND_LINKS"] == f"/srv/wheels,{Path.home()}/it's,https://c.example/links"


@pytest.mark.parametrize(
    ("option", "value", "variable", "expected"),
    [
        ("trusted-host", "\n    a.example\n    b.example:8443", "UV_INSECURE_HOST", "a.example b.example:8443"),
        ("constraint", "one.txt two.txt", "UV_CONSTRAINT", "one.txt two.txt"),
        ("build-constraint", "one.txt", "UV_BUILD_CONSTRAINT", "one.txt"),
        ("client-cert", "/etc/me.pem", "SSL_CLIENT_CERT", "/etc/me.pem"),
        ("cert", "/etc/it's.pem", "SSL_CERT_FILE", "/etc/it's.pem"),
        ("timeout", "7.5", "UV_HTTP_TIMEOUT", "8"),
        ("default-timeout", "9", "UV_HTTP_TIMEOUT", "9"),
        ("retries", "2", "UV_HTTP_RETRIES", "2"),
        ("pypi-url", "https://a.example/", "UV_DEFAULT_INDEX", "https://a.example/"),
        ("keyring-provider", "subprocess", "UV_KEYRING_PROVIDER", "subprocess"),
    ],
)
def test_an_option_becomes_a_variable(
    configure: Configure, option: str, value: str, variable: str, expected: str
) -> None:
    configure(f"[global]\n{option} = {value}\n")
    assert environment()[variable] == expected


def test_a_proxy_takes_the_place_of_the_environments(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://other.example:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    configure("[global]\nproxy = http://proxy.example:3128\n")
    found = {name: value for name, value in environment().items() if name.upper().endswith("_PROXY")}
    assert found == dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://proxy.example:3128")


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_uvs_own_variables_are_kept(configure: Configure, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    configure("[global]\nindex-url = https://pip.example/\ntimeout = 5\n")
    monkeypatch.setenv(variable, "https://uv.example/")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "6")
    found = environment()
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_HTTP_TIMEOUT")
    assert {name: found[name] for name in names if name in found} == {
        variable: "https://uv.example/",
        "UV_HTTP_TIMEOUT": "6",
    }


@pytest.mark.parametrize(("value", "expected"), [("yes", ["--no-index"]), ("1", ["--no-index"]), ("off", [])])
def test_no_index_is_an_argument(configure: Configure, value: str, expected: list[str]) -> None:
    configure(f"[global]\nno-index = {value}\n")
    assert uv_arguments(pip_config()) == expected


def test_kinds_of_files_are_arguments_unless_they_are_given(configure: Configure) -> None:
    configure("[install]\nonly-binary = one,two\nno-binary = three\n")
    assert uv_arguments(pip_config()) == ["--only-binary=one", "--only-binary=two", "--no-binary=three"]
    assert uv_arguments(pip_config(), ("--only-binary", ":all:")) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("find-links", "https://a.example/a,b"), ("keyring-provider", "import"), ("timeout", "inf")],
)
def test_an_option_that_uv_does_not_support_is_named(
    configure: Configure, tmp_path: Path, option: str, value: str
) -> None:
    configure(f"[global]\n{option} = {value}\n")
    with pytest.raises(UnsupportedByUv, match=f"pip's option {option}"):
        environment()
    locked = Lock("wanted==1.0 \\\n    --hash=sha256:aa\n").closure(["wanted"])
    with pytest.raises(InstallFailed, match=f"pip's option {option}"):
        install(locked, Target("3.13", "x86_64"), tmp_path / "installed")


def test_a_configuration_that_pip_cannot_read_is_an_error(configure: Configure) -> None:
    for text in ("no section", "[global]\ntimeout = long"):
        configure(text)
        with pytest.raises(UnsupportedByUv, match=r"pip cannot read its own configuration: (.|\n)*(section|timeout)"):
            pip_config()


def test_uv_installs_from_pips_index(configure: Configure, index: str, tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("wanted<2\n")
    configure(f"[global]\nindex-url = {index}\nconstraint = {tmp_path}/constraints.txt\n")
    done = uv_pip("install", "--quiet", "--target", str(tmp_path / "installed"), "wanted", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed/wanted.py").is_file()


def test_a_constraint_is_no_hindrance_to_hashes(
    configure: Configure, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("wanted<2\n")
    configure(f"[global]\nindex-url = {index}\nconstraint = {tmp_path}/constraints.txt\n")
    monkeypatch.chdir(tmp_path)
    lock(tmp_path, index)
    locked = Lock((tmp_path / "lock.txt").read_text()).closure(["wanted"])
    (tmp_path / "to").mkdir()
    install(locked, Target(f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64"), tmp_path / "to/installed")  # type: ignore[arg-type]
    assert (tmp_path / "to/installed/wanted.py").is_file()


def lock(folder: Path, index: str) -> str:
    (folder / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\ndependencies = ["wanted"]\n')
    done = subprocess.run(
        [sys.executable, ROOT / ".setup/lock.py", "lock.txt"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (folder / "lock.txt").read_text()


def test_the_lock_is_made_with_pips_indexes_and_names_none(
    configure: Configure, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # uv's own configuration asks for all addresses
    (tmp_path / "uv.toml").write_text(
        "[pip]\nemit-index-url = true\nemit-find-links = true\nemit-index-annotation = true\n"
    )
    (tmp_path / "constraints.txt").write_text("wanted<2\n")
    (tmp_path / "links").mkdir()
    configure(
        f"[global]\nindex-url = {index}\nfind-links = {tmp_path}/links\nconstraint = {tmp_path}/constraints.txt\n"
    )
    text = lock(tmp_path, index)
    head, digest, reason = text.splitlines()
    assert (head, reason) == ("wanted==1.0 \\", "    # via p (pyproject.toml)")
    assert digest.startswith("    --hash=sha256:")


def test_the_lock_names_the_option_that_uv_does_not_support(configure: Configure, tmp_path: Path) -> None:
    configure("[global]\nkeyring-provider = import\n")
    done = subprocess.run(
        [sys.executable, ROOT / ".setup/lock.py", "lock.txt"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pip's option keyring-provider is 'import'"), done.stderr


def test_tools_are_installed_with_pip_where_uv_does_not_support_an_option(
    configure: Configure, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(f"[global]\nindex-url = {index}\n")
    lock(tmp_path, index)
    configure(f"[global]\nindex-url = {index}\nkeyring-provider = import\n")
    monkeypatch.setattr(toolbox, "HERE", tmp_path / "tools")
    monkeypatch.setattr(toolbox, "LOCKS", tmp_path)
    folder = toolbox.tool("lock")
    assert list(folder.rglob("site-packages/wanted.py"))


def test_the_module_needs_only_the_standard_library() -> None:
    code = f"import runpy; runpy.run_path({module.__file__!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
    assert callable(runpy.run_path(str(ROOT / ".setup/install.py"))["main"])
