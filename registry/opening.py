"""The door to a repository, whichever kind it is."""

from collections.abc import Callable

from registry.auth import CredentialSource
from registry.credentials import CredentialFiles
from registry.kept import KeptConnections
from registry.layout import LayoutRepository
from registry.reference import LayoutLocation, Location
from registry.repository import Files, Repository
from registry.settings import HttpSettings

_DEFAULTS = HttpSettings()


def open_repository(
    location: Location,
    *,
    files: Files,
    http: HttpSettings = _DEFAULTS,
    credentials: CredentialSource | None = None,
    connections: KeptConnections | None = None,
    others: Callable[[str], HttpSettings] | None = None,
) -> Repository:
    """Open a repository; nothing is asked of it yet.

    Args:
        location: Where it is.
        files: How blobs and layouts come to the disk.
        http: How to speak HTTP; unused for a layout.
        credentials: Where credentials are; ``None``: docker's and podman's files.
        connections: Shared with other repositories; ``None``: its own, which end with it.
        others: How to speak HTTP with another host, ``HOST[:PORT]``, that the registry sends us
            to; ``None``: as ``http`` says, without its client certificate and ``insecure``.

    Raises:
        AuthenticationError: The credentials can't be read.
        RegistryError: A TLS file of ``http`` can't be used.
    """
    if isinstance(location, LayoutLocation):
        return LayoutRepository(location, files)
    # urllib3 takes longer to import than all the rest of a short command.
    from registry.client import HttpRepository

    source = CredentialFiles.from_environment() if credentials is None else credentials
    return HttpRepository(location, http, source, files, connections, others)
