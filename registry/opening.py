"""The door to a repository, whichever kind it is."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

from registry.auth import CredentialSource
from registry.cache import BlobCache
from registry.credentials import CredentialFiles
from registry.kept import KeptConnections
from registry.layout import LayoutRepository
from registry.mirrors import MirroredRepository, mirror_of
from registry.reference import HttpLocation, LayoutLocation, Location
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
    mirrors: Sequence[str] = (),
    sibling: Location | None = None,
    cache: BlobCache | None = None,
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
        mirrors: ``HOST[:PORT][/PATH]``, asked in this order for what a digest names.
        sibling: A repository that may hold what is going to be pushed: on the same registry its
            blobs are mounted and not sent.
        cache: Where blobs of registries that go to files are kept; ``None``: nowhere.

    Raises:
        AuthenticationError: The credentials can't be read.
        ReferenceFormatError: A mirror is malformed.
        RegistryError: A TLS file of ``http`` can't be used.
    """
    if isinstance(location, LayoutLocation):
        return LayoutRepository(location, files)
    # urllib3 takes longer to import than all the rest of a short command.
    from registry.client import HttpRepository

    source = CredentialFiles.from_environment() if credentials is None else credentials
    near = sibling if isinstance(sibling, HttpLocation) else None
    if not mirrors:
        return HttpRepository(location, http, source, files, connections, others, near, cache)
    # Shared by the registry and its mirrors; without a user of its own it ends with them.
    kept = connections or KeptConnections()

    def at(place: HttpLocation) -> Repository:
        settings = others(place.host) if others else http.elsewhere()
        # One that does not answer is passed over soon; one that breaks off can still go on.
        quick = replace(settings, attempts=2)
        return HttpRepository(place, quick, source, files, kept, others, cache=cache)

    places = [mirror_of(location, mirror) for mirror in mirrors]
    return MirroredRepository(
        HttpRepository(location, http, source, files, kept, others, near, cache),
        [(place, functools.partial(at, place)) for place in places],
        kept,
        owns_connections=connections is None,
    )
