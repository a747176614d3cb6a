"""Host functions that installed packages bring, each by an entry point of our group."""

import logging
from collections.abc import Callable
from importlib.metadata import entry_points

_LOG = logging.getLogger("stack_composer.sandbox")

GROUP = "stack_composer.host_functions"
"""An entry point here is a function ``bring(register)``; ``register`` is ``Sandbox.register``."""


def bring(register: Callable[..., None]) -> None:
    """Let each package register its functions.

    A package that fails is told and left out: the plugins that need it say so when they load.
    """
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            entry.load()(register)
        except Exception as error:  # noqa: BLE001  # whatever is wrong there
            _LOG.warning("the package behind %s = %s is left out: %s", GROUP, entry.value, error)
