"""Where the files of an OCI image layout are, by their names in it."""

import errno
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from registry.digest import Source, parse_digest
from registry.errors import ContentError, NotFoundError
from registry.reading import open_regular

MARKER = "oci-layout"
INDEX = "index.json"


def blob_name(digest: str) -> str:
    """A blob's name in a layout; no digest, no name.

    Raises:
        ContentError: It is no digest.
    """
    return f"blobs/sha256/{parse_digest(digest).removeprefix('sha256:')}"


class Store(Protocol):
    """The files of a layout."""

    def open(self, name: str, what: str) -> AbstractContextManager[Source]:
        """Open a file to be read from its beginning.

        Args:
            name: ``oci-layout``, ``index.json`` or a ``blob_name``.
            what: How messages call it.

        Raises:
            NotFoundError: It is not there.
            ContentError: It is no regular file.
        """
        ...

    def size_bytes(self, name: str) -> int | None:
        """The size of a file; ``None``: it is not there."""
        ...


class FolderStore:
    """A layout that is a folder.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def open(self, name: str, what: str) -> Iterator[io.BufferedReader]:
        """See ``Store``; a symbolic link is followed, and never waited at."""
        path = self._root / name
        with ExitStack() as stack:
            try:
                file = stack.enter_context(open_regular(path))
            except (FileNotFoundError, NotADirectoryError) as error:
                message = f"cannot find {what}: no file {path}"
                raise NotFoundError(message) from error
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                message = f"cannot read {what}: {path} is no regular file"
                raise ContentError(message) from error
            yield file

    def size_bytes(self, name: str) -> int | None:
        """See ``Store``."""
        try:
            return (self._root / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
