"""The service, for the verbs that go through it where its socket answers (contract §7)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agent.cli.app import App
from agent.control.client import Client, reach
from agent.errors import NotFoundError
from agent.settings.home import user_home
from agent.settings.owner import is_closed
from agent.settings.places import Places, find_places


@contextmanager
def service_of(app: App) -> Iterator[Client | None]:
    """The service of the installation that the flags name; None where nothing listens.

    Raises:
        AgentError: Something listens, and it can't be asked.
    """
    client = reach(_places(app).socket)
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


@contextmanager
def service_in_stead(app: App) -> Iterator[Client | None]:
    """The service, where this user may not change what it keeps; None = do it here (contract §7).

    With flags that say how something is to be done it is done here too: nobody can be told them.

    Raises:
        AgentError: See ``service_of``.
    """
    if app.flags.keys() <= {"home", "system"} and is_closed(_places(app).state):
        with service_of(app) as client:
            yield client
    else:
        yield None


def _places(app: App) -> Places:
    return find_places(
        os.environ,
        user_home(),
        home=app.flags.get("home"),
        config=app.flags.get("config"),
        system=app.flags.get("system", False),
    )
