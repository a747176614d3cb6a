"""Mirrors in front of a registry, by the config."""

import json
from pathlib import Path

import pytest

from support.links import breaking_link
from support.registry import docker_registry
from support.system import PLUGIN_ID, CountedRegistry, Machine, Publisher


def with_mirrors(host: str, *mirrors: str) -> str:
    """The config of a host's mirrors."""
    return f'[registry.hosts."{host}"]\nmirrors = {json.dumps(mirrors)}\n'


def test_a_fleet_pulls_through_its_mirror(
    machine: Machine, publisher: Publisher, docker: CountedRegistry, tmp_path: Path
) -> None:
    """What is pulled by digest comes through it; the registry is asked what there is."""
    publisher.release("0.1.0")
    publisher.release("0.2.0")
    (tmp_path / "mirrored").mkdir()
    assert machine.registry is not None
    proxy = [f"proxy: {{remoteurl: 'http://{docker.host}'}}"]
    with (
        docker_registry(tmp_path / "mirrored", more=proxy) as mirror,
        breaking_link(docker.host) as link,
    ):
        machine.registry = machine.registry.replace(docker.host, link.host)
        machine.configure(with_mirrors(link.host, mirror), probation="0s")
        machine.run("config", "check")
        machine.run("pull", PLUGIN_ID)
        # Two answers without a body to speak of; the manifest alone is larger.
        assert link.down < 1000
    assert list((tmp_path / "mirrored").rglob("data"))
    assert machine.version() == "0.2.0"


def test_no_mirror_is_as_no_mirror_at_all(
    machine: Machine, publisher: Publisher, docker: CountedRegistry
) -> None:
    """One that is not there is told on stderr, and an update run goes on without it."""
    publisher.release("0.1.0")
    machine.configure(with_mirrors(docker.host, "127.0.0.1:1"), probation="0s")
    ran = machine.process("pull", PLUGIN_ID)
    assert f"mirror 127.0.0.1:1 of {docker.host}: cannot reach 127.0.0.1:1" in ran.err
    assert ran.err.count("mirror 127") == 1


@pytest.mark.parametrize("mirror", ["mirror", "oci:/srv", "https://h", "h.x:0", "h.x/UP", "r.x"])
def test_what_is_no_mirror_is_told(machine: Machine, mirror: str) -> None:
    """``config check`` names the key and the value; a registry is no mirror of itself."""
    machine.configure(with_mirrors("r.x", mirror))
    ran = machine.run("config", "check", expect=2)
    assert 'registry.hosts."r.x".mirrors' in ran.err
    assert mirror in ran.err
