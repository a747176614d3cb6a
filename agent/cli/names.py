"""Under which names a release may come into a repository: those of its signed manifest."""

from collections.abc import Sequence

import click

import registry
from registry.version_tags import parse_tag
from sandbox.manifest import PluginManifest


def refuse_other_names(
    doing: str, manifest: PluginManifest, reference: registry.Reference, tags: Sequence[str]
) -> None:
    """Refuse a name that says something else than the signed manifest does.

    Args:
        doing: The verb.
        manifest: Of the release.
        reference: Where it is to go.
        tags: Further names for it.

    Raises:
        UsageError: The id or a version differs, or the target is a digest.
    """
    what = f"{manifest.id} {manifest.version}"
    if reference.plugin_id != manifest.id:
        raise click.UsageError(
            f"cannot {doing} {what} to {reference.location.text}: the last part must be its id"
        )
    if reference.digest is not None:
        raise click.UsageError(
            f"cannot {doing} {what} to a digest: got {reference.digest}, expected a repository, "
            "as the digest follows from what it gets"
        )
    named = [registry.tag_to_version(parse_tag(tag)) for tag in tags]
    for version in (reference.version, *named):
        if version not in (None, manifest.version):
            raise click.UsageError(
                f"cannot {doing} {what} as the version {version}: a version's tag must be that of "
                "the signed manifest"
            )
