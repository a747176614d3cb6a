"""Releases on their way between registries, layouts and archives: what goes, and is it believed.

What is carried is checked for shape and digests on the way. Whether it is believed is judged where
it comes in: by ``import``, and by every pull.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import registry
from agent.context import Context
from agent.errors import AgentError, FormatError, translated
from agent.pipeline.admission import refusal
from agent.pipeline.candidate import Head, check_head, read_head
from agent.pipeline.heads import head_at, looking, named_offer
from agent.pipeline.plan import Offer
from agent.pipeline.taking import incoming
from registry.archive import Archive
from registry.artifact import ARTIFACT_TYPE
from registry.attached import Attached, attached_to
from registry.copying import Courier
from registry.model import MANIFEST_MEDIA_TYPE
from registry.releasing import require_unmoved
from registry.repository import Progress
from registry.version_tags import is_release_tag, version_to_tag


@dataclass(frozen=True, slots=True)
class Load:
    """One release that is to be carried.

    Attributes:
        head: Its small files, checked for shape.
        tags: What names it at the target: its version, and channels.
        attached: What hangs on it, as a tree.
    """

    head: Head
    tags: tuple[str, ...]
    attached: tuple[Attached, ...] = ()

    @property
    def plugin_id(self) -> str:
        """Of the signed manifest."""
        return self.head.manifest.id

    @property
    def oci(self) -> registry.Manifest:
        """Its manifest in the registry."""
        return self.head.artifact.manifest

    @property
    def manifests(self) -> tuple[Attached, ...]:
        """All that hangs on it; each comes after the one that it refers to."""
        return tuple(one for top in self.attached for one in top.flat())

    def tagged(self, tag: str) -> "Load":
        """The same, under its version and this tag alone."""
        return replace(self, tags=_tags(self.head, tag))

    @property
    def size_bytes(self) -> int:
        """The blobs of all of it."""
        usable = (one.manifest for one in self.manifests if one.manifest is not None)
        return sum(blob.size_bytes for oci in (self.oci, *usable) for blob in oci.blobs)


@dataclass(frozen=True, slots=True)
class Carried:
    """What came of a load.

    Attributes:
        sent_bytes: How many bytes of blobs went over; those that were there did not.
        left: Why what hangs on it was left behind, by digest.
    """

    sent_bytes: int
    left: dict[str, AgentError]


def find_load(
    context: Context,
    repository: registry.Repository,
    reference: registry.Reference,
    *,
    with_referrers: bool,
) -> Load:
    """Look at the release that a reference names.

    Raises:
        AgentError, registry.RegistryError, sandbox.SandboxError: See ``heads.find_head``; or
            too much hangs on it.
    """
    with looking(reference):
        head = head_at(context, repository, named_offer(context, repository, reference))
    channel = reference.tag if reference.version is None else None
    digest = head.artifact.manifest.digest
    return Load(
        head,
        _tags(head, channel),
        attached_to(repository, digest) if with_referrers else (),
    )


def loads_in(
    context: Context, archive: Archive, *, with_referrers: bool
) -> Iterator[Load | AgentError]:
    """The releases of an archive; an error stands for one that can't be used.

    Raises:
        registry.RegistryError: The archive is no layout.
    """
    names: dict[str, list[str]] = {}
    index = archive.index()
    for entry in index.entries:
        if entry.media_type == MANIFEST_MEDIA_TYPE:
            names.setdefault(entry.digest, []).extend(index.names_of(entry))
    for digest, named in names.items():
        try:
            load = _load_in(context, archive, digest, named, with_referrers=with_referrers)
        except Exception as error:
            cause = translated(error)
            if cause is None:
                raise
            yield cause
        else:
            if load is not None:
                yield load


def carry(
    context: Context,
    load: Load,
    source: registry.Readable,
    target: registry.Writable,
    *,
    force: bool,
    progress: Progress,
) -> Carried:
    """Copy a release, then what hangs on it; what can't be copied of that is left behind.

    Raises:
        registry.RegistryError: The release itself could not be copied.
        OSError: The disk is at fault.
    """
    sent = 0

    def count(size_bytes: int) -> None:
        nonlocal sent
        sent += size_bytes

    left: dict[str, AgentError] = {}
    longest = context.config.registry.max_artifact_bytes
    if load.size_bytes > longest:
        raise FormatError(
            f"cannot copy {load.oci.digest}: it and what is attached to it have {load.size_bytes} "
            f"bytes, expected ≤ {longest}",
            hint="raise registry.max_artifact_bytes, or leave out what is attached: export and "
            "import have --without-referrers for that, copy takes it along --with-referrers only",
        )
    with incoming(context) as folder:
        courier = Courier(source, target, folder, count, progress)
        courier.carry(load.oci, tags=load.tags, force=force)
        for attached in load.manifests:
            try:
                courier.carry_attached(attached)
            except (registry.ContentError, registry.NotFoundError) as error:
                cause = translated(error)
                if cause is None:
                    raise
                left[attached.descriptor.digest] = cause
    return Carried(sent, left)


def refuse_twice(loads: Sequence[Load]) -> None:
    """Refuse a set that has other bytes under one name, before anything is written.

    Raises:
        registry.TagMovedError: It does.
    """
    named: dict[tuple[str, str], str] = {}
    for load in loads:
        for tag in load.tags:
            first = named.setdefault((load.plugin_id, tag), load.oci.digest)
            if first != load.oci.digest:
                message = (
                    f"cannot export {load.plugin_id}:{tag} twice: got {first} and "
                    f"{load.oci.digest}; export one of them, or each into an archive of its own"
                )
                raise registry.TagMovedError(message)


def require_room(load: Load, target: registry.Writable) -> None:
    """Refuse what would move a version, before anything is sent.

    Raises:
        registry.TagMovedError: It would.
        registry.RegistryError: As of the target.
    """
    versions = [tag for tag in load.tags if registry.tag_to_version(tag) is not None]
    require_unmoved(target, load.oci.digest, versions)


def require_believed(
    context: Context, load: Load, source: registry.Readable, target: registry.Location
) -> None:
    """Refuse a release that a pull from where it is going to would refuse.

    Raises:
        TrustError: The trust store in force does not believe it; the message names the finding.
        registry.RegistryError: As of the source.
    """
    import trust

    head = load.head
    evidence = trust.Evidence(signature=head.signature, repository=target.text)
    verdict = context.judge(head.subject, evidence)
    if verdict.needs_payload:
        longest = context.config.sandbox.max_module_bytes
        payload = source.read_blob(head.artifact.payload, max_bytes=longest)
        verdict = context.judge(head.subject, replace(evidence, payload=payload))
    if not verdict.accepted:
        raise refusal(f"{head.manifest.id} {head.manifest.version}", verdict)


def _load_in(
    context: Context, archive: Archive, digest: str, names: Sequence[str], *, with_referrers: bool
) -> Load | None:
    """A release of an archive; ``None`` for what hangs on one."""
    oci = archive.whole.manifest(digest)
    if oci.subject is not None and oci.artifact_type != ARTIFACT_TYPE:
        return None
    artifact = registry.read_artifact(
        oci, max_artifact_bytes=context.config.registry.max_artifact_bytes
    )
    head = read_head(context, archive.whole, artifact)
    source = archive.named(head.manifest.id)
    tags = [_tag_of(name, head) for name in names]
    for version in (None, *map(registry.tag_to_version, tags)):
        check_head(source.location, Offer(None, version), head)
    attached = attached_to(source, digest) if with_referrers else ()
    return Load(head, _tags(head, *tags), attached)


def _tag_of(name: str, head: Head) -> str:
    """The tag in a ref name: ``ID:TAG``, ``TAG``, or with a repository before it as some write."""
    repository, _, tag = name.rpartition(":")
    plugin_id = repository.rpartition("/")[2]
    if plugin_id not in ("", head.manifest.id) or not is_release_tag(tag):
        raise FormatError(
            f"cannot use {head.artifact.manifest.digest}: it is called {name[:200]!r}, expected "
            f"{head.manifest.id}:TAG"
        )
    return tag


def _tags(head: Head, *named: str | None) -> tuple[str, ...]:
    version = version_to_tag(head.manifest.version)
    return tuple(dict.fromkeys((version, *filter(None, named))))
