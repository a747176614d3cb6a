"""Whether a credential is one: asked of the registry before anyone keeps it."""

from collections.abc import Callable

from registry.auth import Credential
from registry.kept import KeptConnections
from registry.settings import HttpSettings

_DEFAULTS = HttpSettings()


def check_login(
    host: str,
    credential: Credential,
    *,
    http: HttpSettings = _DEFAULTS,
    connections: KeptConnections | None = None,
    others: Callable[[str], HttpSettings] | None = None,
) -> None:
    """Ask a registry, and its realm where it names one, to take a credential.

    A registry that lets everyone in takes any. See ``open_repository`` for the arguments.

    Raises:
        AuthenticationError: It is refused.
        RegistryError: The registry can't be asked.
    """
    from registry.transport import Transport

    transport = Transport(host, "", http, credential, connections, others)
    try:
        with transport.request("GET", "/v2/"):
            pass
    finally:
        transport.close()
