"""Files and helpers that keep credentials: which is asked, what is written, what goes wrong."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.files import Files
from registry import AuthenticationError, Credential, CredentialFiles, DockerConfig
from registry.helpers import Helper
from support.helpers import KEEPER, put_helper

JANE = Credential("jane", "correct horse")
JANE_AUTH = "amFuZTpjb3JyZWN0IGhvcnNl"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on ``PATH``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def keeper(programs: Path, tmp_path: Path) -> Path:
    """The helper ``keeper``; the folder in which it keeps what it was given."""
    folder = tmp_path / "kept"
    folder.mkdir()
    put_helper(programs, "keeper", KEEPER.format(folder=str(folder)))
    return folder


def config(folder: Path, **document: object) -> DockerConfig:
    """Write a docker config."""
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    return DockerConfig(path)


def test_files_are_asked_in_order(tmp_path: Path) -> None:
    """``$REGISTRY_AUTH_FILE``, docker's, then containers' two; the first that has one wins."""
    places = {
        "named": tmp_path / "auth.json",
        "docker": tmp_path / "docker" / "config.json",
        "runtime": tmp_path / "run" / "containers" / "auth.json",
        "config": tmp_path / "config" / "containers" / "auth.json",
    }
    environment = {
        "REGISTRY_AUTH_FILE": str(places["named"]),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    files = CredentialFiles.from_environment(environment, tmp_path)
    assert [file.path for file in files.files] == list(places.values())
    assert files.first.path == places["named"]
    for name, path in reversed(places.items()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {"h": {"username": name, "password": "p"}}}))
        found = files.find("h", "x")
        assert found is not None
        assert found.username == name


def test_without_variables_they_are_below_home(tmp_path: Path) -> None:
    """Where docker and podman put them; ``~/.netrc`` is none of them."""
    files = CredentialFiles.from_environment({}, tmp_path)
    assert [str(file.path.relative_to(tmp_path)) for file in files.files] == [
        ".docker/config.json",
        ".config/containers/auth.json",
    ]
    (tmp_path / ".netrc").write_text("machine h login jane password hunter2\n")
    assert files.find("h", "x") is None


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io"])
def test_docker_hub_goes_by_three_names(tmp_path: Path, host: str, key: str) -> None:
    """One login, whichever name it was kept under; no other host has it."""
    file = config(tmp_path, auths={key: {"auth": JANE_AUTH}})
    assert file.find(host, "jane/x") == JANE
    assert file.find("docker.io.example.com", "jane/x") is None


def test_an_identity_token_is_read(tmp_path: Path) -> None:
    """It wins over the password beside it, and no Basic is made of it."""
    file = config(tmp_path, auths={"h": {"auth": JANE_AUTH, "identitytoken": "abc"}})
    found = file.find("h", "x")
    assert found == Credential(identity_token="abc")
    assert found is not None
    assert found.basic is None


def test_a_helper_is_asked(keeper: Path, tmp_path: Path) -> None:
    """The one named for a host, else the one for all; the file's entry where it has none."""
    (keeper / "h").write_text('{"ServerURL":"h","Username":"jane","Secret":"correct horse"}')
    hub = '{"ServerURL":"x","Username":"<token>","Secret":"abc"}'
    (keeper / "https:__index.docker.io_v1_").write_text(hub)
    assert config(tmp_path, credHelpers={"h": "keeper"}).find("h", "a/b") == JANE
    assert config(tmp_path, credsStore="keeper").find("h", "a/b") == JANE
    assert config(tmp_path, credsStore="keeper").find("docker.io", "a") == Credential(
        identity_token="abc"
    )
    both = config(tmp_path, credsStore="keeper", auths={"other": {"auth": JANE_AUTH}, "h": {}})
    assert both.find("other", "x") == JANE
    assert both.find("nobody", "x") is None


def test_the_entry_of_a_path_comes_before_the_helper_of_its_host(
    keeper: Path, tmp_path: Path
) -> None:
    """The longest prefix wins, wherever it is kept."""
    (keeper / "h").write_text('{"ServerURL":"h","Username":"host","Secret":"s"}')
    file = config(tmp_path, credsStore="keeper", auths={"h/team": {"auth": JANE_AUTH}})
    assert file.find("h", "team/x") == JANE
    assert file.find("h", "other/x") == Credential("host", "s")


def test_a_helper_is_asked_once_a_minute(keeper: Path, tmp_path: Path) -> None:
    """An update run over many plugins of a registry starts it once."""
    config(tmp_path, credsStore="keeper")
    now_s = [0.0]
    files = CredentialFiles.from_environment(
        {"DOCKER_CONFIG": str(tmp_path)}, tmp_path, clock=lambda: now_s[0]
    )
    for at_s, calls in ((0.0, 1), (59.0, 1), (60.0, 2)):
        now_s[0] = at_s
        for number in range(3):
            files.find("h", f"plugins/{number}")
        assert (keeper / "calls").read_text() == "get\n" * calls


BAD_HELPERS = {
    "fails": ("#!/bin/sh\necho hunter2; exit 3\n", "it ended with 3"),
    "no JSON": ("#!/bin/sh\necho hunter2\n", "something else than JSON"),
    "no secret": ('#!/bin/sh\necho \'{"Username":"hunter2"}\'\n', "no Username and Secret"),
    "endless": ("#!/bin/sh\nwhile :; do echo hunter2hunter2hunter2; done\n", "more than 65536"),
    "no program": ("", "Exec format error|Permission denied"),
}


@pytest.mark.parametrize("case", BAD_HELPERS)
def test_a_helper_that_fails_is_told(programs: Path, case: str) -> None:
    """Which one, and how; nothing of what it printed is shown."""
    text, why = BAD_HELPERS[case]
    put_helper(programs, "bad", text)
    if not text:
        (programs / "docker-credential-bad").chmod(0o644)
    with pytest.raises(AuthenticationError, match=why) as caught:
        Helper("bad", timeout_s=20).get("h")
    assert "docker-credential-bad" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "../evil", "a/b", "", "-x", "a b"])
def test_a_helper_that_is_none_is_told(name: str) -> None:
    """A name is looked for on ``PATH`` and is never a path."""
    with pytest.raises(AuthenticationError):
        Helper(name).get("h")


def test_a_helper_that_hangs_is_killed(programs: Path, tmp_path: Path) -> None:
    """With what it started, which holds the same pipe."""
    pid = tmp_path / "pid"
    put_helper(programs, "slow", f"#!/bin/sh\nsleep 600 &\necho $! > {pid}\nwait\n")
    with pytest.raises(AuthenticationError, match=r"no answer within 2 s"):
        Helper("slow", timeout_s=2).get("h")
    child = int(pid.read_text())
    until = time.monotonic() + 20
    while _runs(child):
        assert time.monotonic() < until


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_login_writes_the_file(tmp_path: Path) -> None:
    """Its other keys, and the logins of others, stay; it is for its owner alone."""
    file = config(tmp_path, auths={"other": {"auth": "x"}}, detachKeys="ctrl-q", n=[1, None])
    file.path.chmod(0o644)
    assert file.store("h:5000", JANE, Files()) == str(file.path)
    assert json.loads(file.path.read_text()) == {
        "auths": {"other": {"auth": "x"}, "h:5000": {"auth": JANE_AUTH}},
        "detachKeys": "ctrl-q",
        "n": [1, None],
    }
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.find("h:5000", "a/b") == JANE
    assert file.erase("h:5000", Files())
    assert not file.erase("h:5000", Files())
    assert json.loads(file.path.read_text())["auths"] == {"other": {"auth": "x"}}


def test_login_makes_the_file(tmp_path: Path) -> None:
    """Where docker never was, and nothing where there was nothing to forget."""
    file = DockerConfig(tmp_path / "new" / "config.json")
    assert not file.erase("h", Files())
    assert not file.path.exists()
    file.store("docker.io", JANE, Files())
    assert list(json.loads(file.path.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    token = Credential(identity_token="abc")
    file.store("h", token, Files())
    assert file.find("h", "x") == token


def test_login_follows_a_link(tmp_path: Path) -> None:
    """Those who keep their settings elsewhere keep the link."""
    real = tmp_path / "dotfiles" / "config.json"
    real.parent.mkdir()
    real.write_text("{}")
    link = tmp_path / "config.json"
    link.symlink_to(real)
    DockerConfig(link).store("h", JANE, Files())
    assert link.is_symlink()
    assert "h" in json.loads(real.read_text())["auths"]


def test_login_through_a_helper(keeper: Path, tmp_path: Path) -> None:
    """The secret is in the helper and nowhere in the file, where it was before."""
    file = config(tmp_path, credHelpers={"h": "keeper"}, auths={"h": {"auth": JANE_AUTH}})
    assert file.helper_of("h") == "keeper"
    assert file.helper_of("other") is None
    assert file.store("h", JANE, Files()) == "docker-credential-keeper"
    assert json.loads(file.path.read_text())["auths"] == {"h": {}}
    assert file.find("h", "x") == JANE
    assert file.erase("h", Files())
    assert not (keeper / "h").exists()
    assert not file.erase("h", Files())
    assert file.find("h", "x") is None


def test_an_old_key_does_not_stay_beside_a_new_login(tmp_path: Path) -> None:
    """Of the spellings of one registry one is left: the password just typed."""
    file = config(tmp_path, auths={"https://h/v1/": {"auth": "eDp5"}, "h/team": {"auth": "eDp5"}})
    file.store("h", JANE, Files())
    auths = json.loads(file.path.read_text())["auths"]
    assert auths == {"h/team": {"auth": "eDp5"}, "h": {"auth": JANE_AUTH}}


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    """It may hold what somebody needs."""
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(AuthenticationError):
        DockerConfig(path).store("h", JANE, Files())
    assert path.read_text() == "{"


LOG_IN = """
import sys
from pathlib import Path
from agent.files import Files
from registry import Credential, DockerConfig
file, mine = DockerConfig(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    file.store(f"{mine}-{number}.example.com", Credential(mine, "secret"), Files())
file.erase(f"{mine}-0.example.com", Files())
"""


def test_logins_at_one_moment_lose_none(tmp_path: Path) -> None:
    """Several processes log in and out at once, and each finds what it left."""
    path = config(tmp_path, auths={"there": {"auth": "eDp5"}}, HttpHeaders={"a": "b"}).path
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOG_IN, path, f"h{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(timeout=60) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    document = json.loads(path.read_text(encoding="utf-8"))
    servers = {
        f"h{process}-{number}.example.com" for process in range(4) for number in range(1, 30)
    }
    assert set(document["auths"]) == {"there", *servers}
    assert document["HttpHeaders"] == {"a": "b"}
