"""Blobs on disk by their digest, shared by processes; nothing in it is believed.

``sha256/HEX`` is a blob that was whole once, ``partial/HEX`` what came of one, locked by whoever
brings the rest. A blob is hashed in the pass that reads it, each time it is used. The cache is
inert: whatever is wrong with it, a pull goes on without it.
"""

import errno
import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from registry.cache_folder import CacheFiles, CacheFolder
from registry.cancelling import check_cancelled
from registry.digest import copy_verified, parse_digest
from registry.errors import ContentError
from registry.model import Descriptor
from registry.reading import open_regular
from registry.repository import Progress

_LOG = logging.getLogger("stack_composer.registry")
_LOOK_S = 1.0
_MOST_LOOKS = 30
# A link, and what is no file or has a second name.
_STRANGE = {errno.ELOOP, errno.EINVAL}
_OUT_OF_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}

Download = Callable[[io.BufferedRandom], None]
"""Brings a blob into an open file, going on with what it holds; verified when it returns."""


class _Sink:
    """Where bytes go that are only read to be hashed."""

    def write(self, _data: memoryview, /) -> None:
        """Take them."""


class BlobCache:
    """See the module.

    Args:
        folder: Its own, made where it is missing; what is not the user's alone is not used.
        files: Performs every change on disk.
        max_bytes: How much it may hold; what was not used for longest goes first.

    Attributes:
        folder: What it holds.
    """

    def __init__(self, folder: Path, files: CacheFiles, max_bytes: int) -> None:
        self.folder = CacheFolder(folder, files, max_bytes)
        self._files = files
        self._is_told = False

    def fetch(
        self,
        descriptor: Descriptor,
        destination: Path,
        *,
        what: str,
        progress: Progress | None,
        download: Download,
    ) -> bool:
        """Bring a blob to a file by way of the cache; it appears whole and verified.

        Args:
            descriptor: The blob.
            destination: Gets it: the very file of the cache under a name of its own where that
                is possible, so that the bytes are written once; else a copy.
            what: For messages.
            progress: Gets the bytes of each piece.
            download: Brings what the cache does not have.

        Returns:
            Whether it did; False where the cache can't be used.

        Raises:
            RegistryError: As of ``download``; what came until then stays for the next time.
            OSError: The destination can't be written.
        """
        digits = parse_digest(descriptor.digest).partition(":")[2]
        whole, part = self.folder.whole(digits), self.folder.part(digits)
        with ExitStack() as stack:
            try:
                self.folder.require()
                found = self._found(whole, descriptor, what, stack)
                begun = None if found else stack.enter_context(self._hold(part))
                if begun is not None:
                    # Whoever held it before may have brought it.
                    found = self._found(whole, descriptor, what, stack)
                    if found is not None:
                        self._files.remove(part)
            except OSError as error:
                self._tell(error)
                return False
            if found is not None:
                if progress is not None:
                    progress(descriptor.size_bytes)
                self._hand_over(found, descriptor, destination, what)
            elif begun is not None:
                if not self._bring(begun, part, whole, download):
                    return False
                self._hand_over(begun, descriptor, destination, what)
        self.folder.came(0 if found is not None else descriptor.size_bytes)
        return True

    @contextmanager
    def _hold(self, part: Path) -> Iterator[io.BufferedRandom]:
        """Hold a part; wait for another process for as long as it gets on.

        Raises:
            OSError: It can't be opened; ``TimeoutError``: another process has it, and stands still.
        """
        looks, had, is_strange = 0, -1, False
        with ExitStack() as stack:
            while True:
                try:
                    file = stack.enter_context(self._files.held(part, timeout_s=_LOOK_S))
                    break
                except TimeoutError:
                    has = _size_bytes(part)
                    looks = looks + 1 if has == had else 0
                    had = has
                    if looks >= _MOST_LOOKS:
                        raise
                    check_cancelled()
                except OSError as error:
                    if is_strange or error.errno not in _STRANGE:
                        raise
                    is_strange = True
                    self._remove_strange(part)
            yield file

    def _bring(self, file: io.BufferedRandom, part: Path, whole: Path, download: Download) -> bool:
        """Bring what is missing, and give the blob its name; False where there is no room."""
        try:
            download(file)
            file.flush()
            # Made durable under its destination's name only: what is lost here is fetched again.
            self._files.move(part, whole)
        except ContentError:
            self._files.remove(part)
            raise
        except OSError as error:
            if error.errno not in _OUT_OF_ROOM:
                raise
            # Without it there may be room for what the user asked for.
            self._tell(error)
            self.folder.empty()
            self._files.remove(part)
            with suppress(OSError):  # closing writes what waits to be written: no room for that
                file.close()
            return False
        return True

    def _found(
        self, whole: Path, descriptor: Descriptor, what: str, stack: ExitStack
    ) -> io.BufferedReader | None:
        """Open a blob that is there and whose bytes are right; what is wrong there goes.

        Raises:
            OSError: It can't be read.
        """
        try:
            file = stack.enter_context(open_regular(whole, follow=False))
            copy_verified(
                file,
                _Sink(),
                digest=descriptor.digest,
                size_bytes=descriptor.size_bytes,
                what=f"{what} in the cache",
            )
            # Noted as used; when it was written stays.
            os.utime(file.fileno(), ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
        except FileNotFoundError:
            return None
        except ContentError as error:
            _LOG.warning("%s; it is fetched again", error)
        except OSError as error:
            if error.errno not in _STRANGE:
                raise
            self._remove_strange(whole)
            return None
        else:
            return file
        self._files.remove(whole)
        return None

    def _remove_strange(self, path: Path) -> None:
        """Remove what was put there by somebody else; what a link leads to stays."""
        _LOG.warning("cannot use %s: no file of the cache's; it is removed", path)
        self._files.remove(path)

    def _hand_over(
        self,
        file: io.BufferedReader | io.BufferedRandom,
        descriptor: Descriptor,
        destination: Path,
        what: str,
    ) -> None:
        """Put what was just verified under its destination's name, or a copy, verified too."""
        if self._files.share(file, destination):
            return
        file.seek(0)
        with self._files.temporary(destination.parent) as (copy, temporary):
            copy_verified(
                file,
                copy,
                digest=descriptor.digest,
                size_bytes=descriptor.size_bytes,
                what=what,
            )
            copy.flush()
            self._files.publish(temporary, destination)

    def _tell(self, error: OSError) -> None:
        """Say once that it goes without the cache."""
        if not self._is_told:
            self._is_told = True
            _LOG.warning("cannot use the cache %s, going on without: %s", self.folder.path, error)


def _size_bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
