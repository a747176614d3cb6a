"""Registries with an authority of their own, by the config's sections and by flags."""

import os
import pty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.registry import docker_registry
from support.system import PLUGIN_ID, Machine, Publisher
from support.tls import Authority, nginx


@dataclass
class Secured:
    """A registry behind nginx, which wants a client certificate.

    Attributes:
        open: Without nginx: TLS alone.
        closed: With it.
        authority: Signed all certificates.
        folder: Holds ``client.crt`` and ``client.key``.
    """

    open: str
    closed: str
    authority: Authority
    folder: Path

    def section(self, host: str, *, client: bool = False) -> str:
        """The config for a host."""
        shown = ""
        if client:
            shown = (
                f'client_cert = "{self.folder}/client.crt"\n'
                f'client_key = "{self.folder}/client.key"\n'
            )
        ca = f'ca_file = "{self.authority.certificate}"\n'
        return f'[registry.hosts."{host}"]\nplain_http = false\n{ca}{shown}'


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    """Run both."""
    folder = tmp_path / "tls"
    for name in ("open", "closed", "nginx"):
        (tmp_path / name).mkdir()
    authority = Authority(folder)
    server, _ = authority.pair("server"), authority.pair("client")
    with (
        docker_registry(tmp_path / "open", http=server.http) as open_host,
        docker_registry(tmp_path / "closed") as behind,
        nginx(
            tmp_path / "nginx", behind, server=server, clients=authority.certificate
        ) as closed_host,
    ):
        yield Secured(open_host, closed_host, authority, folder)


def test_each_host_has_its_own_section(
    machine: Machine, publisher: Publisher, secured: Secured
) -> None:
    """Pushed and pulled at both with nothing but the config; the plain one beside them stays."""
    machine.configure(
        secured.section(secured.open) + secured.section(secured.closed, client=True),
        probation="0s",
    )
    for host, version in ((secured.open, "0.1.0"), (secured.closed, "0.2.0")):
        publisher.release(version, "--to", f"{host}/plugins/{PLUGIN_ID}")
        machine.run("pull", f"{host}/plugins/{PLUGIN_ID}:{version}")
        assert machine.version() == version
    publisher.release("0.3.0", sample="0.2.0")
    machine.run("pull", f"{PLUGIN_ID}:0.3.0")
    machine.run("config", "check")


def test_a_flag_holds_for_the_command(
    machine: Machine, publisher: Publisher, secured: Secured
) -> None:
    """--ca-file or --insecure; neither means plain HTTP, and a loopback host needs to be told."""
    section = f'[registry.hosts."{secured.open}"]\nplain_http = false\n'
    machine.configure(section)
    to = f"{secured.open}/plugins/{PLUGIN_ID}"
    push = ("push", publisher.plugin("0.1.0"), "--key", publisher.key, "--to", to)
    ran = machine.json(*push, expect=5)
    assert "--ca-file" in ran.document["error"]["message"]
    machine.run(*push, "--ca-file", secured.authority.certificate)
    machine.run("tags", to, "--insecure")
    machine.run("tags", to, expect=5)


def test_who_shows_no_certificate_is_told_what_to_set(machine: Machine, secured: Secured) -> None:
    """4, and the keys of the section by its name."""
    machine.configure(secured.section(secured.closed))
    ran = machine.run("tags", f"{secured.closed}/plugins/{PLUGIN_ID}", expect=4)
    assert f'client_cert, client_key of [registry.hosts."{secured.closed}"]' in ran.err


def test_a_terminal_is_not_asked_for_a_passphrase(machine: Machine, tmp_path: Path) -> None:
    """An encrypted key ends as 2 and names the files, also where somebody could be asked."""
    pair = Authority(tmp_path / "tls").pair("client", passphrase=b"hunter2")
    machine.configure(
        f'[registry.hosts."localhost:1"]\nplain_http = false\n'
        f'client_cert = "{pair.certificate}"\nclient_key = "{pair.key}"\n'
    )
    terminal, theirs = pty.openpty()
    try:
        tags = ("tags", f"localhost:1/{PLUGIN_ID}")
        with machine.popen(*tags, stdin=theirs, start_new_session=True) as process:
            _, said = process.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(theirs)
    assert process.returncode == 2
    assert "phrase" not in said
    assert str(pair.key) in said


@pytest.mark.parametrize("name", ["Registry.example.com", "registry", "h:0", "h/x", "[0:0::1]:5"])
def test_a_section_that_never_counts_is_told(machine: Machine, name: str) -> None:
    """``config check`` names the section of a host that no reference can name."""
    machine.configure(f'[registry.hosts."{name}"]\ninsecure = true\n')
    ran = machine.run("config", "check", expect=2)
    assert f'registry.hosts."{name}"' in ran.err
    assert str(machine.config_file) in ran.err
