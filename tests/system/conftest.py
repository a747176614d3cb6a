"""What the system tests share: one docker-registry, a fresh repository prefix for each test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import EAGER, Frail
from support.system import PLUGIN_ID, CountedRegistry, Machine, Publisher, counted_registry

_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's own settings and credentials out."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    for name in list(os.environ):
        if name.startswith(("STACK_COMPOSER_", "OTEL_")) or name == "SOURCE_DATE_EPOCH":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedRegistry]:
    """A docker-registry for the whole run."""
    with counted_registry(tmp_path_factory.mktemp("docker-registry")) as running:
        yield running


@pytest.fixture
def machine(docker: CountedRegistry, tmp_path: Path) -> Machine:
    """A host whose default registry is a prefix of the docker-registry that is its own."""
    return Machine(tmp_path / "host", f"{docker.host}/t{next(_NUMBERS)}")


@pytest.fixture
def publisher(machine: Machine, tmp_path: Path) -> Publisher:
    """A publisher whom the host believes."""
    someone = Publisher(machine, tmp_path / "publisher")
    someone.trusted_by(machine)
    return someone


@pytest.fixture
def frail(machine: Machine, tmp_path: Path) -> Frail:
    """A host with 0.1.0 installed, whose health the test decides; its service is eager.

    The publisher has a machine of its own: what happens to the host's config is nothing to it.
    """
    someone = Publisher(Machine(tmp_path / "author", machine.registry), tmp_path / "publisher")
    someone.trusted_by(machine)
    machine.configure(Frail.section(), probation="1s", update=EAGER)
    frail = Frail(someone, machine)
    frail.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    return frail


@pytest.fixture
def installed(machine: Machine, publisher: Publisher) -> Machine:
    """A host with 0.1.0 installed."""
    publisher.release("0.1.0")
    machine.run("pull", PLUGIN_ID)
    return machine
