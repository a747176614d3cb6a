"""Releases and what hangs on them, carried from one repository to another.

Every blob is verified here before the target sees a byte of it. Large ones pass through a file
and never through memory. What the target can take over from the source by itself does neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.attached import Attached
from registry.errors import ContentError
from registry.model import Descriptor, Manifest
from registry.parallel import one_at_a_time
from registry.releasing import release, send_each
from registry.repository import Progress, Readable, Writable

_IN_MEMORY_BYTES = 1 << 20


def _ignore(_count: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Courier:
    """Carries manifests with their blobs.

    Attributes:
        source: From where.
        target: To where.
        folder: For the blobs that are under way.
        sent: Gets the bytes of each piece that the target is sent.
        progress: Gets how far it is, in bytes: of a large blob half of each piece that is fetched,
            and half of each that is sent. What the target has counts as if it went over.
    """

    source: Readable
    target: Writable
    folder: Path
    sent: Progress = _ignore
    progress: Progress = _ignore

    def carry(self, manifest: Manifest, *, tags: Sequence[str], force: bool) -> None:
        """Copy a manifest and its blobs; see ``release``.

        Raises:
            ContentError: A blob is not what the manifest says.
            TagMovedError: See ``release``.
            RegistryError: As of both repositories.
            OSError: The folder can't be written.
        """
        release(self.target, manifest, self._send, tags=tags, force=force)

    def carry_attached(self, attached: Attached) -> None:
        """Copy a referrer, without those that hang on it.

        Raises:
            ContentError: It can't be used, or see ``carry``.
            RegistryError: See ``carry``.
            OSError: See ``carry``.
        """
        if attached.manifest is None:
            digest = attached.descriptor.digest
            raise ContentError(f"cannot copy {digest}: {attached.problem}")
        self.carry(attached.manifest, tags=(), force=False)

    def _send(self, blobs: Sequence[Descriptor]) -> None:
        tally = _Tally(one_at_a_time(self.sent), one_at_a_time(self.progress))
        send_each(self.target, blobs, lambda blob: self._send_one(blob, tally))

    def _send_one(self, blob: Descriptor, tally: "_Tally") -> None:
        if self.target.has_blob(blob) or self.target.mount_blob(blob):
            tally.progress(blob.size_bytes)
            return
        if blob.size_bytes <= _IN_MEMORY_BYTES:
            data = self.source.read_blob(blob, max_bytes=_IN_MEMORY_BYTES)
            self.target.push_blob(blob, data, progress=tally.sent_small)
            return
        path = self.folder / blob.digest.partition(":")[2]
        try:
            self.source.fetch_blob(blob, path, progress=tally.fetched)
            self.target.push_blob(blob, path, progress=tally.sent_large)
        finally:
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Tally:
    """What goes over on several threads; see ``Courier``."""

    sent: Progress
    progress: Progress

    def sent_small(self, count: int) -> None:
        self.sent(count)
        self.progress(count)

    def fetched(self, count: int) -> None:
        self.progress(count // 2)

    def sent_large(self, count: int) -> None:
        self.sent(count)
        self.progress(count - count // 2)
