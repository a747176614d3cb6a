"""login and logout: checked at a registry, kept where docker keeps it, and shown to nobody."""

import base64
import http.client
import io
import json
import os
import pty
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from support.helpers import KEEPER, put_helper
from support.realm import TokenRealm, token_realm
from support.registry import PASSWORD, USER, Misbehaving, docker_registry, misbehaving, reply
from support.system import PLUGIN_ID, Machine, Publisher, Ran

DEADLINE_S = 60
PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@contextmanager
def fronted(upstream: str, user: str) -> Iterator[Misbehaving]:
    """A registry that lets one user in, whose password is the name twice; it notes all requests."""
    pair = basic(user)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("Authorization") != pair:
            reply(handler, 401, WWW_Authenticate='Basic realm="of its own"')
            return
        connection = http.client.HTTPConnection(upstream, timeout=DEADLINE_S)
        headers = {
            name: value for name, value in handler.headers.items() if name != "Authorization"
        }
        connection.request(handler.command, handler.path, server.requests[-1].body, headers)
        got = connection.getresponse()
        body = got.read()
        kept = {n.replace("-", "_"): v for n, v in got.getheaders() if n != "Transfer-Encoding"}
        reply(handler, got.status, body, **kept)
        connection.close()

    with misbehaving() as server:
        server.route = answer
        yield server


def basic(user: str) -> str:
    """What a request of a user says."""
    return "Basic " + base64.b64encode(f"{user}:{user}{user}".encode()).decode()


@pytest.fixture
def logins(tmp_path: Path) -> Path:
    """The docker config in force; not there yet."""
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """A docker-registry that wants a password."""
    (tmp_path / "storage").mkdir()
    with docker_registry(tmp_path / "storage", login=True) as running:
        yield running


def log_in(
    machine: Machine,
    host: str,
    *more: str,
    password: bytes = PASSWORD.encode() + b"\n",
    expect: int = 0,
) -> Ran:
    """Run ``agent login`` with a password on stdin."""
    stdin = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(password))
    try:
        flags = ("--username", USER, "--password-stdin")
        return machine.run("login", host, *flags, *more, expect=expect)
    finally:
        sys.stdin = stdin


def test_login_lets_a_push_and_a_pull_in(
    machine: Machine, publisher: Publisher, host: str, logins: Path
) -> None:
    """Kept for this user alone; forgotten by logout, and the registry closed again."""
    folder = publisher.plugin("0.1.0")
    push = ("push", folder, "--key", publisher.key, "--registry", f"{host}/plugins")
    assert f"agent login {host}" in machine.run(*push, expect=4).err
    ran = log_in(machine, host)
    assert f"kept the login of {USER} at {host}\n  in {logins}" in ran.out
    assert stat.S_IMODE(logins.stat().st_mode) == 0o600
    assert json.loads(logins.read_text())["auths"] == {host: {"auth": PAIR}}
    machine.run(*push)
    machine.run("pull", PLUGIN_ID, "--registry", f"{host}/plugins")
    assert machine.json("logout", host).document["was_logged_in"] is True
    assert json.loads(logins.read_text())["auths"] == {}
    machine.run("tags", PLUGIN_ID, "--registry", f"{host}/plugins", expect=4)
    ran = machine.run("logout", host)
    assert ran.out == f"no login at {host} to forget\n"


def test_a_token_registry_is_logged_in_to(
    machine: Machine, publisher: Publisher, tmp_path: Path, logins: Path
) -> None:
    """The realm says whether the password is one; an update run asks for one token a repository."""
    (tmp_path / "storage").mkdir()
    with (
        token_realm(tmp_path) as realm,
        docker_registry(tmp_path / "storage", more=realm.lines()) as host,
    ):
        machine.registry = f"{host}/plugins"
        machine.configure(probation="0s")
        log_in(machine, host, password=b"wrong\n", expect=4)
        assert not logins.exists()
        log_in(machine, host)
        ids = [f"org.example.p{number}" for number in range(3)]
        for plugin_id in ids:
            publisher.release("0.1.0", plugin_id=plugin_id, stem=plugin_id)
            machine.run("pull", plugin_id)
        _one_token_each(machine, realm, ids)


def _one_token_each(machine: Machine, realm: TokenRealm, ids: list[str]) -> None:
    realm.asked.clear()
    machine.run("update")
    assert sorted(realm.asked) == [[f"repository:plugins/{one}:pull"] for one in ids]


@pytest.mark.parametrize("way", ["wrong", "dry run", "offline", "no host", "nothing listens"])
def test_what_does_not_log_in_keeps_nothing(
    machine: Machine, host: str, logins: Path, way: str
) -> None:
    """A password that is refused, a dry run, or a registry that can't be asked."""
    ways = {
        "wrong": (host, (), b"wrong\n", 4),
        "dry run": (host, ("--dry-run",), PASSWORD.encode(), 0),
        "offline": (host, ("--offline",), PASSWORD.encode(), 5),
        "no host": ("registry", (), PASSWORD.encode(), 2),
        "nothing listens": ("127.0.0.1:1", (), PASSWORD.encode(), 5),
    }
    where, flags, password, code = ways[way]
    ran = log_in(machine, where, *flags, password=password, expect=code)
    assert not logins.exists()
    for secret in (PASSWORD, PAIR, "wrong"):
        assert secret not in ran.out + ran.err


@pytest.mark.parametrize("password", [b"", b"\n", b"\xff\n", b"a" * 20_000])
def test_what_is_no_password_is_2(machine: Machine, logins: Path, password: bytes) -> None:
    """Nobody is asked."""
    log_in(machine, "127.0.0.1:1", password=password, expect=2)
    assert not logins.exists()


def test_a_password_is_never_an_argument(machine: Machine, logins: Path) -> None:
    """There is no flag for it; without a terminal or --password-stdin it is 2, with the way."""
    assert not logins.exists()
    machine.run("login", "127.0.0.1:1", "--password", PASSWORD, expect=2)
    ran = machine.process("login", "127.0.0.1:1", "-u", USER, expect=2)
    assert "--password-stdin" in ran.err
    assert "--username" in machine.process("login", "127.0.0.1:1", expect=2).err
    for name in ("", "a:b", "a\nb"):
        machine.run("login", "127.0.0.1:1", "-u", name, "--password-stdin", expect=2)


def test_a_login_of_another_file_is_told(
    machine: Machine, host: str, logins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``$REGISTRY_AUTH_FILE`` is written where it is set; what docker has stays, and is told."""
    log_in(machine, host)
    named = tmp_path / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert str(named) in log_in(machine, host).out
    ran = machine.run("logout", host)
    assert f"{logins} still has one" in ran.err
    assert machine.json("logout", host).document["still"] == [str(logins)]


def test_a_helper_keeps_the_login(
    machine: Machine, host: str, logins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret is in no file; logout has it forget, also where another file names it too."""
    programs, kept = tmp_path / "bin", tmp_path / "kept"
    programs.mkdir()
    kept.mkdir()
    put_helper(programs, "keeper", KEEPER.format(folder=str(kept)))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    for path in (logins, tmp_path / "auth.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"credsStore": "keeper"}', encoding="utf-8")
    assert "  in docker-credential-keeper\n" in log_in(machine, host).out
    assert PASSWORD in (kept / host).read_text(encoding="utf-8")
    assert PAIR not in (tmp_path / "auth.json").read_text(encoding="utf-8")
    assert "NAME_UNKNOWN" in machine.run("tags", f"{host}/plugins/{PLUGIN_ID}", expect=3).err
    document = machine.json("logout", host).document
    assert (document["was_logged_in"], document["still"]) == (True, [])
    assert not (kept / host).exists()
    machine.run("tags", f"{host}/plugins/{PLUGIN_ID}", expect=4)


def test_a_file_that_is_named_comes_first(
    machine: Machine, host: str, logins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--registry-config, repeated, before the environment's; login writes the first of them."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: {"auth": "eDp5"}}}))
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert str(first) in log_in(machine, host, "--registry-config", str(first)).out
    look = ("tags", f"{host}/plugins/{PLUGIN_ID}")
    named = ("--registry-config", second, "--registry-config", first)
    assert "NAME_UNKNOWN" in machine.run(*look, *named, expect=3).err
    assert "NAME_UNKNOWN" in machine.run(*named[:2], *look, *named[2:], expect=3).err
    machine.run(*look, expect=4)
    assert not logins.exists()


def test_a_terminal_is_asked_and_shows_no_password(
    machine: Machine, host: str, logins: Path
) -> None:
    """User name and password are typed; only the name is echoed."""
    terminal, theirs = pty.openpty()
    try:
        # Without a terminal of its own that it could open, it is asked at stdin.
        ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        with machine.popen("login", host, start_new_session=True, **ends) as process:
            shown = _until(terminal, "Username: ")
            os.write(terminal, f"{USER}\n".encode())
            shown += _until(terminal, "Password of")
            os.write(terminal, f"{PASSWORD}\n".encode())
            shown += _until(terminal, "a credential helper")
            assert process.wait(DEADLINE_S) == 0
    finally:
        os.close(terminal)
        os.close(theirs)
    assert PASSWORD not in shown
    assert json.loads(logins.read_text())["auths"] == {host: {"auth": PAIR}}


def _until(terminal: int, text: str) -> str:
    """Read until a text was shown."""
    shown = ""
    until = time.monotonic() + DEADLINE_S
    while text not in shown:
        assert select.select([terminal], [], [], max(0.0, until - time.monotonic()))[0], shown
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


def test_a_copy_tells_no_registry_the_other_s_password(
    publisher: Publisher, tmp_path: Path, logins: Path
) -> None:
    """Two registries with a login each: every request has that of its own registry, or none."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        docker_registry(tmp_path / "a") as one,
        docker_registry(tmp_path / "b") as two,
        fronted(one, "ann") as source,
        fronted(two, "bob") as target,
    ):
        auths = {
            server.host: {"auth": basic(user).removeprefix("Basic ")}
            for server, user in ((source, "ann"), (target, "bob"))
        }
        logins.parent.mkdir()
        logins.write_text(json.dumps({"auths": auths}))
        here, there = f"{source.host}/x/{PLUGIN_ID}", f"{target.host}/x/{PLUGIN_ID}"
        publisher.release("0.1.0", "--to", here)
        machine = publisher.machine
        machine.run("copy", here, there, "--with-referrers")
        machine.run("pull", there)
        for server, user in ((source, "ann"), (target, "bob")):
            said = {request.headers.get("Authorization", "") for request in server.requests}
            assert basic(user) in said
            assert said <= {basic(user), ""}
            other = "bob" if user == "ann" else "ann"
            everything = "".join(f"{one.path}{one.headers}{one.body!r}" for one in server.requests)
            assert other * 2 not in everything
