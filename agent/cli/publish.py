"""push."""

from pathlib import Path

import click

import registry
from agent.cli.app import App, dry_run_flag, format_flag, manifest_at, verb
from agent.cli.names import refuse_other_names
from agent.cli.progress import transfer
from agent.errors import TrustError
from agent.verbs.publishing import (
    Folder,
    build,
    read_folder,
    require_believed,
    sign_folder,
    signed_by,
    try_folder,
)

_PATH = click.Path(path_type=Path)


@verb(
    name="push",
    examples="agent push ./hello --key publisher.pem\n"
    "agent push ./hello --to registry.example.com/plugins/org.example.hello --tag stable",
)
@click.argument("path")
@click.option(
    "--key", "key_file", type=_PATH, metavar="FILE", help="Sign with this key where needed."
)
@click.option(
    "--public", "public_file", type=_PATH, metavar="FILE", help="Check the .sig with this key."
)
@click.option("--to", "to", metavar="REF", help="The repository; default: by the plugin's id.")
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="A channel to move along.")
@click.option("--force", is_flag=True, help="Move a version to other bytes.")
@dry_run_flag
@format_flag
def push_command(
    app: App,
    path: str,
    *,
    key_file: Path | None,
    public_file: Path | None,
    to: str | None,
    tags: tuple[str, ...],
    force: bool,
    dry_run: bool,
) -> None:
    """Push a plugin to a registry, under its version.

    PATH is the plugin's folder or its .toml. Without --key the .sig must be valid under the
    trust store or --public. Pushing the same again changes nothing; a version never moves to
    other bytes without --force. Code that a host like this one would refuse is pushed with a
    warning: other hosts may have what it lacks.
    """
    context = app.context
    folder = read_folder(context, manifest_at(path))
    manifest = folder.manifest
    reference = registry.parse_reference(to or manifest.id, context.bases())
    refuse_other_names("push", manifest, reference, tags)
    signature = _signature(app, folder, key_file, public_file, dry_run=dry_run)
    trial = try_folder(context, folder)
    if trial.problem is not None:
        app.out.message(f"{manifest.id} {manifest.version}: a host like this one will refuse it")
        app.out.message(f"  why: {trial.problem}")
    for note in trial.notes:
        app.out.message(f"{manifest.id} {manifest.version}: {note}")
    built = build(folder, signature, context.environ)
    names = [manifest.version, *tags]
    if reference.tag is not None and reference.version is None:
        names.append(reference.tag)
    total = sum(blob.size_bytes for blob in (built.config, *built.layers))
    if not dry_run:
        with (
            # What was pushed where its id belongs need not be sent to another place beside it.
            context.registries.open(
                reference.location, sibling=registry.locate(manifest.id, context.bases())
            ) as repository,
            transfer(app.out, f"pushing {manifest.id} {manifest.version}", total) as progress,
        ):
            registry.push_artifact(
                repository, built, built.sources, tags=names, force=force, progress=progress
            )
    tag = registry.version_to_tag(manifest.version)
    ref = f"{reference.location.text}:{tag}"
    if app.out.as_json:
        app.out.document(ref=ref, digest=built.digest, release=folder.subject.release)
        return
    app.out.line(f"{'would push' if dry_run else 'pushed'} {ref}")
    app.out.line(f"  digest  {built.digest}")
    app.out.line(f"  release {folder.subject.release}")


def _signature(
    app: App, folder: Folder, key_file: Path | None, public_file: Path | None, *, dry_run: bool
) -> bytes:
    """The bytes of a ``.sig`` that is valid, made anew where a key is at hand."""
    import trust

    if key_file is not None:
        key = trust.load_private(key_file)
        if signed_by(folder, key.public):
            return folder.texts.signature or b""
        return (
            trust.sign(folder.subject, key)
            if dry_run
            else sign_folder(folder, key, app.context.files)
        )
    if public_file is not None:
        public = trust.load_public(public_file)
        if not signed_by(folder, public):
            raise TrustError(
                f"cannot push {folder.path}: its .sig is not valid under {public_file}",
                hint=f"agent sign {folder.path} --key FILE",
            )
    else:
        require_believed(app.context, folder)
    return folder.texts.signature or b""
