"""What a manifest requests against what the module imports. Pure."""

from collections.abc import Collection, Iterable, Mapping

from sandbox.capabilities import CORE_IMPORTS, HOST_MODULES, WASI_MODULE
from sandbox.shape import Import

_FREE = "log"
"""Needs no request."""

_FILES = "fs_read"
_OPENS_FILES = "path_open"


def notes(
    imports: Iterable[Import], requested: Collection[str], registered: Mapping[str, str]
) -> tuple[str, ...]:
    """What differs, a sentence each; none of it keeps a plugin from running.

    Args:
        imports: The module's.
        requested: The manifest's capabilities.
        registered: The capability of each of an application's functions, by name. A word that
            is neither one of these nor the sandbox's own says nothing here.
    """
    needs = {name: item.capability for name, item in CORE_IMPORTS.items()} | dict(registered)
    used: set[str] = set()
    found: list[str] = []
    for item in imports:
        if item.module == WASI_MODULE and item.name == _OPENS_FILES:
            used.add(_FILES)  # not a note without a request: every C library imports it
        elif item.module in HOST_MODULES and item.name in needs:
            word = needs[item.name]
            used.add(word)
            if word not in requested and word != _FREE:
                found.append(f"it imports {item} and does not request {word!r}: a call of it traps")
    known = {*needs.values(), _FILES} - {_FREE}
    found += [
        f"it requests {word!r} and imports nothing of it"
        for word in requested
        if word in known - used
    ]
    return tuple(found)
