"""The service, for the verbs that go through it where its socket answers (contract §7)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.cli.app import App
from agent.control.client import Client, reach
from agent.errors import NotFoundError
from agent.settings.places import find_places


@contextmanager
def service_of(app: App) -> Iterator[Client | None]:
    """The service of the installation that the flags name; None where nothing listens.

    Raises:
        AgentError: Something listens, and it can't be asked.
    """
    places = find_places(
        os.environ,
        Path.home(),
        home=app.flags.get("home"),
        config=app.flags.get("config"),
        system=app.flags.get("system", False),
    )
    client = reach(places.socket)
    try:
        yield client
    finally:
        if client is not None:
            client.close()


@contextmanager
def required_service(app: App) -> Iterator[Client]:
    """The service; it is what the verb is about.

    Raises:
        NotFoundError: Nothing listens.
    """
    with service_of(app) as client:
        if client is None:
            raise NotFoundError("cannot find the service: nothing listens", hint="agent run")
        yield client
