"""A repository behind the OCI distribution API 1.1."""

import io
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from registry.auth import CredentialSource
from registry.cache import BlobCache
from registry.digest import Source, check_bytes, parse_digest, sha256_digest
from registry.download import download
from registry.errors import ContentError, NotFoundError, ReferenceFormatError, RegistryError
from registry.exchange import Body
from registry.kept import KeptConnections
from registry.model import (
    INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
)
from registry.paging import pages
from registry.reference import HttpLocation
from registry.referrers_api import Referrers
from registry.repository import Files, Progress, check_unmoved
from registry.sending import SettingsOf
from registry.settings import HttpSettings
from registry.strict_json import parse_object
from registry.transport import Transport
from registry.upload import Place, Upload, mount
from registry.version_tags import is_release_tag, is_tag

_MAX_TAGS = 50_000
_PAGE_TAGS = 1000
# An index is asked for too: it is refused with a reason then, where a registry would say 404.
_ACCEPT = f"{MANIFEST_MEDIA_TYPE}, {INDEX_MEDIA_TYPE};q=0.1"


class HttpRepository:
    """See ``Repository``; used by one thread at a time for each operation.

    Args:
        location: Host and name.
        settings: How to speak HTTP.
        credentials: Asked once.
        files: How blobs come to the disk.
        connections: Shared with others; None = its own, which end with it.
        others: Settings of the hosts that the registry may send us to.
        sibling: Another repository; on the same registry, blobs are mounted from it.
        cache: Where blobs that go to files are kept; ``None``: nowhere.
    """

    def __init__(
        self,
        location: HttpLocation,
        settings: HttpSettings,
        credentials: CredentialSource,
        files: Files,
        connections: KeptConnections | None = None,
        others: SettingsOf | None = None,
        sibling: HttpLocation | None = None,
        cache: BlobCache | None = None,
    ) -> None:
        self._location = location
        self._cache = cache
        self._files = files
        self._path = f"/v2/{location.name}"
        credential = credentials.find(location.host, location.name)
        self._sibling = None
        if sibling is not None and sibling.host == location.host and sibling != location:
            self._sibling = sibling.name
        self._transport = Transport(
            location.host,
            location.name,
            settings,
            credential,
            connections,
            others,
            self._sibling,
        )
        self._referrers = Referrers(self._transport, self._path, location.text)
        # Where the registry offered a place in answer to a mount that it could not do.
        self._begun: dict[str, Place] = {}

    @property
    def location(self) -> HttpLocation:
        """Where it is."""
        return self._location

    @property
    def takes_in_turn(self) -> bool:
        """Say no: a registry takes several."""
        return False

    def resolve(self, tag: str) -> Descriptor:
        """Ask with one HEAD what a tag names; where the registry does not say, fetch it."""
        return self._resolve(tag, writes=False)

    def _resolve(self, tag: str, *, writes: bool) -> Descriptor:
        path = self._manifest_path(tag)
        with self._transport.request("HEAD", path, accept=_ACCEPT, writes=writes) as reply:
            digest = reply.header("Docker-Content-Digest")
            length = reply.header("Content-Length") or ""
            media_type = (reply.header("Content-Type") or "").partition(";")[0].strip()
        if digest is None or not (length.isascii() and length.isdigit()):
            return self.manifest(tag).descriptor
        what = f"what {self._location.text} says of tag {tag}"
        return Descriptor.parse(
            {"mediaType": media_type, "digest": digest, "size": int(length[:20])}, what
        )

    def tagged(self, tag: str) -> Descriptor | None:
        """Say what a tag is set to."""
        try:
            return self._resolve(tag, writes=True)
        except NotFoundError:
            return None

    def manifest(self, reference: str) -> Manifest:
        """Fetch and parse a manifest of at most 4 MiB; its bytes have the digest asked for."""
        asked = reference if ":" in reference else None
        what = f"manifest {reference} of {self._location.text}"
        path = self._manifest_path(reference)
        raw, headers = self._transport.get(
            path,
            accept=_ACCEPT,
            max_bytes=MAX_MANIFEST_BYTES,
            what=what,
            transfer_bytes=MAX_MANIFEST_BYTES,
        )
        said = headers.get("Docker-Content-Digest")
        got = sha256_digest(raw)
        for expected in (asked, said):
            if expected is not None and got != expected:
                message = f"cannot accept {what}: its bytes are {got}, expected {expected[:80]}"
                raise ContentError(message)
        return Manifest.parse(raw)

    def read_blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Fetch a small blob into memory, verified."""
        what = f"blob {descriptor.digest} of {self._location.text}"
        if descriptor.size_bytes > max_bytes:
            message = f"cannot accept {what}: {descriptor.size_bytes} bytes, expected ≤ {max_bytes}"
            raise ContentError(message)
        into = io.BytesIO()
        self._download(descriptor, into, what, None)
        return into.getvalue()

    def fetch_blob(
        self, descriptor: Descriptor, destination: Path, *, progress: Progress | None = None
    ) -> None:
        """Stream a blob to a file, which appears whole and verified or not at all."""
        what = f"blob {descriptor.digest} of {self._location.text}"

        def go_on(file: io.BufferedRandom) -> None:
            self._download(descriptor, file, what, progress, file)

        if self._cache is not None and self._cache.fetch(
            descriptor, destination, what=what, progress=progress, download=go_on
        ):
            return
        with self._files.temporary(destination.parent) as (file, temporary):
            self._download(descriptor, file, what, progress)
            file.flush()
            self._files.publish(temporary, destination)

    def tags(self) -> tuple[str, ...]:
        """List the tags: one request, more only if the registry gives them in pages."""
        what = f"tags of {self._location.text}"
        tags: dict[str, None] = {}
        path = f"{self._path}/tags/list?n={_PAGE_TAGS}"
        for raw, _ in pages(self._transport, path, accept="application/json", what=what):
            page = parse_object(raw, what).get("tags")
            # A repository whose tags were all deleted has null.
            if page is not None and not isinstance(page, list):
                message = f"cannot read {what}: got {type(page).__name__}, expected a list"
                raise ContentError(message)
            tags |= dict.fromkeys(
                tag for tag in page or () if isinstance(tag, str) and is_release_tag(tag)
            )
            if len(tags) > _MAX_TAGS:
                message = f"cannot read {what}: more than {_MAX_TAGS}"
                raise ContentError(message)
        return tuple(tags)

    def referrers(self, digest: str, *, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List what hangs on a manifest, by the API or the fallback tag."""
        return self._referrers.of(digest, artifact_type)

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Ask with one HEAD whether the blob is there."""
        path = f"{self._path}/blobs/{descriptor.digest}"
        try:
            with self._transport.request("HEAD", path, writes=True):
                return True
        except NotFoundError:
            return False

    def mount_blob(self, descriptor: Descriptor) -> bool:
        """Have the registry take a blob over from the sibling; ``push_blob`` goes on if not."""
        if self._sibling is None:
            return False
        try:
            place = mount(self._transport, self._path, descriptor, self._sibling)
        except RegistryError:
            return False  # whatever is wrong, an upload can tell, or do without
        if place is not None:
            self._begun[descriptor.digest] = place
        return place is None

    def push_blob(
        self, descriptor: Descriptor, source: Path | bytes, *, progress: Progress | None = None
    ) -> None:
        """Upload a blob; the registry checks its digest."""
        what = f"blob {descriptor.digest}"
        if isinstance(source, bytes):
            check_bytes(source, descriptor.digest, descriptor.size_bytes, what)
            self._upload(descriptor, io.BytesIO(source), progress)
            return
        with source.open("rb") as file:
            if (size_bytes := source.stat().st_size) != descriptor.size_bytes:
                message = (
                    f"cannot push {source}: got {size_bytes} bytes, "
                    f"expected {descriptor.size_bytes}"
                )
                raise ContentError(message)
            self._upload(descriptor, file, progress)

    def push_manifest(self, raw: bytes, *, tag: str | None, move: bool = True) -> Descriptor:
        """Store a manifest and point a tag at it.

        The API has no compare-and-swap: between our look at the tag and our PUT another
        publisher can set it, and ``move=False`` does not see that.
        """
        manifest = Manifest.parse(raw)
        if tag is not None and not move and (named := self.tagged(tag)) is not None:
            check_unmoved(self._location, tag, named=named.digest, digest=manifest.digest)
            return manifest.descriptor
        path = self._manifest_path(manifest.digest if tag is None else tag)
        body = Body(manifest.media_type, raw, len(raw))
        with self._transport.request(
            "PUT",
            path,
            expected=(HTTPStatus.CREATED,),
            body=body,
            writes=True,
            transfer_bytes=len(raw),
        ) as reply:
            said = reply.header("Docker-Content-Digest")
            knows_subject = reply.header("OCI-Subject") is not None
        if said is not None and said != manifest.digest:
            message = f"cannot push to {self._location.text}: it stored {said[:80]} instead"
            raise ContentError(message)
        if manifest.subject is not None and not knows_subject:
            self._referrers.note(manifest, manifest.subject)
        return manifest.descriptor

    def close(self) -> None:
        """Close idle connections, unless others share them."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _manifest_path(self, reference: str) -> str:
        if ":" in reference:
            parse_digest(reference)
        elif not is_tag(reference):
            message = f"cannot use tag {reference[:140]!r}: it is none"
            raise ReferenceFormatError(message)
        return f"{self._path}/manifests/{reference}"

    def _download(
        self,
        descriptor: Descriptor,
        file: BinaryIO,
        what: str,
        progress: Progress | None,
        begun: Source | None = None,
    ) -> None:
        path = f"{self._path}/blobs/{descriptor.digest}"
        download(self._transport, path, descriptor, file, what=what, progress=progress, begun=begun)

    def _upload(self, descriptor: Descriptor, file: BinaryIO, progress: Progress | None) -> None:
        begun = self._begun.pop(descriptor.digest, None)
        upload = Upload(self._transport, self._path, descriptor, file, progress, begun)
        upload.run(lambda: self.has_blob(descriptor))
