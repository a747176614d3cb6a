"""Credentials from a docker config."""

import base64
import json
from pathlib import Path

import pytest

from registry import AuthenticationError, DockerConfig
from registry.errors import RegistryError


def encode(pair: str) -> dict[str, str]:
    """Write an entry as docker does."""
    return {"auth": base64.b64encode(pair.encode()).decode()}


def config(folder: Path, auths: object) -> DockerConfig:
    """Write a config."""
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    return DockerConfig(folder / "config.json")


@pytest.mark.parametrize(
    ("host", "name", "user"),
    [
        ("r.example.com", "x", "host"),
        ("r.example.com", "team/x", "team"),
        ("r.example.com", "team/sub/x", "team"),
        ("r.example.com", "teams/x", "host"),
        ("r.example.com", "team/x.y", "one"),
        ("r.example.com:5000", "team/x", "port"),
        ("old.example.com", "x", "old"),
    ],
)
def test_the_longest_path_wins(tmp_path: Path, host: str, name: str, user: str) -> None:
    """Entries match hosts with their port, and paths by whole segments."""
    auths = {
        "r.example.com": encode("host:p"),
        "r.example.com/team": encode("team:p"),
        "r.example.com/team/x.y": encode("one:p"),
        "r.example.com:5000": encode("port:p"),
        "https://old.example.com/v1/": encode("old:p"),
    }
    credential = config(tmp_path, auths).find(host, name)
    assert credential is not None
    assert credential.username == user


@pytest.mark.parametrize("host", ["example.com", "r.example.com:443", "evil-r.example.com"])
def test_another_host_gets_nothing(tmp_path: Path, host: str) -> None:
    """No entry, no credential."""
    assert config(tmp_path, {"r.example.com": encode("a:b")}).find(host, "x") is None


def test_a_password_may_hold_colons(tmp_path: Path) -> None:
    """Only the first colon separates."""
    credential = config(tmp_path, {"h": encode("jane:a:b\0\0")}).find("h", "x")
    assert credential is not None
    assert (credential.username, credential.password) == ("jane", "a:b")
    assert credential.basic == "Basic amFuZTphOmI="


def test_name_and_password_in_the_clear(tmp_path: Path) -> None:
    """The other form of an entry."""
    credential = config(tmp_path, {"h": {"username": "a", "password": "b"}}).find("h", "x")
    assert credential is not None
    assert credential.basic == "Basic YTpi"


@pytest.mark.parametrize("auths", [{}, None, [], {"h": {}}, {"h": {"auth": ""}}, {"h/x": {}}])
def test_no_secret_is_no_credential(tmp_path: Path, auths: object) -> None:
    """Docker writes empty entries for what a helper keeps."""
    assert config(tmp_path, auths).find("h", "x") is None


def test_no_file_is_no_credential(tmp_path: Path) -> None:
    """Who never logged in goes without."""
    assert DockerConfig(tmp_path / "config.json").find("h", "x") is None


@pytest.mark.parametrize("auth", ["???", "amFuZQ==", "/w==", 5])
def test_a_malformed_entry_is_an_error(tmp_path: Path, auth: object) -> None:
    """It names the file and never what is in it."""
    with pytest.raises(AuthenticationError, match=r"config\.json") as caught:
        config(tmp_path, {"h": {"auth": auth}}).find("h", "x")
    assert str(auth) not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize("raw", [b"{", b"[]", b" " * ((1 << 20) + 1), b'{"auths":{},"auths":{}}'])
def test_a_malformed_file_is_an_error(tmp_path: Path, raw: bytes) -> None:
    """Broken, ambiguous or absurdly large files are named."""
    (tmp_path / "config.json").write_bytes(raw)
    with pytest.raises(AuthenticationError, match=r"config\.json"):
        DockerConfig(tmp_path / "config.json").find("h", "x")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A folder in its place is no config."""
    with pytest.raises(AuthenticationError, match="cannot read credentials"):
        DockerConfig(tmp_path).find("h", "x")


def test_errors_show_no_secret() -> None:
    """Userinfo in URLs and authorization values are taken out of every message."""
    text = "cannot GET https://jane:hunter2@h/x: sent Basic amFuZTphOmI= or bearer abc.def-g"
    shown = str(RegistryError(text))
    for secret in ("jane", "hunter2", "amFuZTphOmI", "abc.def"):
        assert secret not in shown
    assert "https://***@h/x" in shown
