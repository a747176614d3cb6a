"""The fixtures of the suites that run over every kind of repository."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from registry import Repository
from support.places import KINDS, Place, place_of, registries_in


@pytest.fixture(scope="session")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Place]]:
    """See ``registries_in``."""
    with registries_in(tmp_path_factory.mktemp("registries")) as running:
        yield running


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, registries: Mapping[str, Place]) -> Place:
    """An empty repository of each kind."""
    return place_of(request.param, registries, tmp_path)


@pytest.fixture
def repository(place: Place) -> Iterator[Repository]:
    """The empty repository, open."""
    with place.open() as opened:
        yield opened
