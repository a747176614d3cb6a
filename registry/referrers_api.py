"""Referrers behind HTTP: the API where the registry has one, else the index at a fallback tag.

OCI distribution specification 1.1, "Listing Referrers", "Pushing Manifests with Subject" and
"Referrers Tag Schema".
"""

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlencode

from registry.errors import ContentError, NetworkError, NotFoundError, RegistryError
from registry.exchange import Body
from registry.model import INDEX_MEDIA_TYPE, MAX_MANIFEST_BYTES, Descriptor, Manifest
from registry.paging import pages
from registry.referrers import Found, doubtful, fallback_tag, parse_list, with_referrer
from registry.transport import Transport

_MAX_TRIES = 8


class Referrers:
    """What hangs on the manifests of one repository.

    Args:
        transport: To the registry.
        path: The repository's.
        name: How messages call it.
    """

    def __init__(self, transport: Transport, path: str, name: str) -> None:
        self._transport = transport
        self._path = path
        self._name = name

    def of(self, digest: str, artifact_type: str | None) -> tuple[Descriptor, ...]:
        """List a manifest's referrers; see ``Readable.referrers``."""
        tag = fallback_tag(digest)
        what = f"referrers of {digest} in {self._name}"
        found = Found(what, artifact_type)
        asked = "" if artifact_type is None else "?" + urlencode({"artifactType": artifact_type})
        path = f"{self._path}/referrers/{digest}{asked}"
        is_first = True
        try:
            for raw, headers in pages(self._transport, path, accept=INDEX_MEDIA_TYPE, what=what):
                media_type = (headers.get("Content-Type") or "").partition(";")[0].strip()
                # What answers every path with a page of its own has no such API.
                if is_first and media_type != INDEX_MEDIA_TYPE:
                    return self._at_tag(tag, found)
                is_first = False
                found.add(parse_list(raw, what))
        except NotFoundError:
            if not is_first:
                raise
            return self._at_tag(tag, found)
        return found.entries

    def note(self, manifest: Manifest, subject: Descriptor) -> None:
        """Add a manifest that was just pushed to the fallback index of its subject.

        Entries whose manifests were deleted since go with that write: some registries take no
        index that lists them.

        No registry has a compare-and-swap for tags: another publisher who read the index before
        our write can write after it, and take our entry out. So it is looked at again after a
        pause, longer than between any publisher's read and write, and written anew where that
        happened; who does the same loses nothing.

        Raises:
            ContentError: What is at the tag is no list of referrers, or has no room.
            NetworkError: Others took our entry out again and again.
        """
        tag = fallback_tag(subject.digest)
        what = f"index {tag} of {self._name}"
        is_refused = False
        for tries in range(1, _MAX_TRIES + 1):
            raw = self._read(tag, what)
            looked_at = doubtful(raw, manifest, what, is_refused=is_refused) if raw else ()
            gone = self._gone(looked_at)
            document = with_referrer(raw, manifest, what, gone)
            if document is None:
                return
            try:
                self._write(tag, document)
            except ContentError:
                # Some take no index that lists what they do not have (docker-registry).
                if is_refused or raw is None:
                    raise
                is_refused = True
                continue
            # Chance makes it unlikely that those who met once meet again.
            self._transport.pause(self._path, min(tries, 3))
        message = f"cannot add {manifest.digest} to {what}: others overwrite it; try again later"
        raise NetworkError(message)

    def _write(self, tag: str, document: bytes) -> None:
        with self._transport.request(
            "PUT",
            f"{self._path}/manifests/{tag}",
            expected=(HTTPStatus.CREATED,),
            body=Body(INDEX_MEDIA_TYPE, document, len(document)),
            writes=True,
            transfer_bytes=len(document),
        ):
            pass

    def _gone(self, entries: Sequence[Descriptor]) -> list[str]:
        """Which of them the registry says it does not have; where it says nothing, none."""
        gone = []
        try:
            with self._transport.operation(0):
                for entry in entries:
                    path = f"{self._path}/manifests/{entry.digest}"
                    try:
                        with self._transport.request(
                            "HEAD", path, accept=entry.media_type, writes=True, attempts=1
                        ):
                            pass
                    except NotFoundError:
                        gone.append(entry.digest)
        except RegistryError:
            return []
        return gone

    def _at_tag(self, tag: str, found: Found) -> tuple[Descriptor, ...]:
        what = f"index {tag} of {self._name}"
        raw = self._read(tag, what, writes=False)
        if raw is not None:
            found.add(parse_list(raw, what))
        return found.entries

    def _read(self, tag: str, what: str, *, writes: bool = True) -> bytes | None:
        try:
            raw, _ = self._transport.get(
                f"{self._path}/manifests/{tag}",
                accept=INDEX_MEDIA_TYPE,
                max_bytes=MAX_MANIFEST_BYTES,
                what=what,
                transfer_bytes=MAX_MANIFEST_BYTES,
                writes=writes,
            )
        except NotFoundError:
            return None
        return raw
