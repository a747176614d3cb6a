"""copy, export, import: releases between registries, layouts and archives."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import registry
from agent.cli.app import App, dry_run_flag, format_flag, require_no_path, verb
from agent.cli.discover import line_of
from agent.cli.names import refuse_other_names
from agent.cli.output import sizes
from agent.cli.progress import transfer
from agent.context import Context
from agent.errors import AgentError, translated
from agent.verbs.carrying import (
    Carried,
    Load,
    carry,
    find_load,
    loads_in,
    refuse_twice,
    require_believed,
    require_room,
)
from registry.archive import ArchiveWriter, open_archive
from registry.referrers import kind_of

_INCOMPLETE = 12
_NOTHING = Carried(0, {})
_FILE = click.Path(path_type=Path, dir_okay=False)
_without_referrers = click.option(
    "--without-referrers", is_flag=True, help="Leave out what is attached."
)


@verb(
    name="copy",
    examples="agent copy org.example.hello:0.2.0 registry.example.com/plugins/org.example.hello\n"
    "agent copy registry.example.com/plugins/org.example.hello oci:./usb/org.example.hello"
    " --with-referrers",
)
@click.argument("source_text", metavar="SRC")
@click.argument("target_text", metavar="DST")
@click.option("--with-referrers", is_flag=True, help="Copy what is attached to it, too.")
@click.option("--force", is_flag=True, help="Move a version to other bytes.")
@dry_run_flag
@format_flag
def copy_command(
    app: App,
    source_text: str,
    target_text: str,
    *,
    with_referrers: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Copy a release between registries and layouts, byte for byte.

    SRC is a reference (no version = the newest), DST a repository: the release comes under its
    version there, and under the channel that SRC or DST names. What DST has is not sent again;
    a version never moves to other bytes without --force. Digests are checked; whether the
    release is believed is judged where it is installed.
    """
    context = app.context
    source, target = (_parsed("copy", text, context) for text in (source_text, target_text))
    with context.open_repository(source.location) as repository:
        load = find_load(context, repository, source, with_referrers=with_referrers)
        manifest = load.head.manifest
        refuse_other_names("copy", manifest, target, ())
        if target.tag is not None:
            load = load.tagged(target.tag)
        carried = _NOTHING
        with context.registries.open(target.location, sibling=source.location) as there:
            if not force:
                require_room(load, there)
            if not dry_run:
                title = f"copying {manifest.id} {manifest.version}"
                with transfer(app.out, title, load.size_bytes) as progress:
                    carried = carry(
                        context, load, repository, there, force=force, progress=progress
                    )
    row = _Row(load, target.location, "planned" if dry_run else "copied", carried)
    if app.out.as_json:
        where = f"{source.location.text}@{load.oci.digest}"
        app.out.document(**row.fields(), source=where, tags=list(load.tags))
    else:
        row.print(app)
    app.end_with({row.tell(app)})


@verb(
    name="export",
    examples="agent export org.example.hello org.example.other:1.2.0 --output plugins.tar\n"
    "agent import plugins.tar --registry registry.local:5000/plugins",
)
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("--output", type=_FILE, metavar="FILE", required=True, help="The archive.")
@_without_referrers
@dry_run_flag
@format_flag
def export_command(
    app: App, references: tuple[str, ...], *, output: Path, without_referrers: bool, dry_run: bool
) -> None:
    """Write releases, with all that is attached to them, into one archive.

    The archive is an OCI image layout in a tar file, which skopeo and oras read as well. It
    appears whole or not at all. The same releases make the same bytes.
    """
    context = app.context
    final = _final(output)
    sources = [_parsed("export", text, context) for text in references]
    loads = []
    for source in sources:
        with context.open_repository(source.location) as repository:
            load = find_load(context, repository, source, with_referrers=not without_referrers)
            loads.append(load)
    refuse_twice(loads)
    rows = [_Row(load, None, "planned") for load in loads]
    if not dry_run:
        with context.files.temporary(final.parent, mode=0o644) as (file, temporary):
            writer = ArchiveWriter(file, output)
            rows = []
            for source, load in zip(sources, loads, strict=True):
                title = f"exporting {load.plugin_id} {load.head.manifest.version}"
                with (
                    context.open_repository(source.location) as repository,
                    transfer(app.out, title, load.size_bytes) as progress,
                ):
                    there = writer.named(load.plugin_id)
                    carried = carry(
                        context, load, repository, there, force=False, progress=progress
                    )
                rows.append(_Row(load, None, "copied", carried))
            writer.finish()
            context.files.publish(temporary, final)
    _report(app, rows, [], path=output)


@verb(
    name="import",
    examples="agent import plugins.tar\n"
    "agent import plugins.tar --registry registry.local:5000/plugins --dry-run",
)
@click.argument("archive_file", metavar="FILE", type=_FILE)
@_without_referrers
@click.option("--force", is_flag=True, help="Move versions to other bytes.")
@dry_run_flag
@format_flag
def import_command(
    app: App, archive_file: Path, *, without_referrers: bool, force: bool, dry_run: bool
) -> None:
    """Take the releases of an archive into the registry, with all that is attached to them.

    Each goes where its id belongs (--registry BASE: there), if the trust store believes it and
    every digest is right. One that is refused keeps no other out. A version never moves to
    other bytes without --force.
    """
    context = app.context
    rows: list[_Row] = []
    failures: list[AgentError] = []
    with open_archive(archive_file, context.files) as archive:
        for load in loads_in(context, archive, with_referrers=not without_referrers):
            if isinstance(load, AgentError):
                failures.append(load)
                continue
            target = registry.locate(load.plugin_id, context.bases())
            source = archive.named(load.plugin_id)
            try:
                rows.append(_imported(app, load, source, target, force=force, dry_run=dry_run))
            except Exception as error:
                cause = translated(error)
                if cause is None:
                    raise
                outcome = "refused" if cause.is_rule else "failed"
                rows.append(_Row(load, target, outcome, error=cause))
    if not rows and not failures:
        app.out.message(f"{archive_file} holds no plugin")
    _report(app, rows, failures, path=archive_file)


def _imported(
    app: App,
    load: Load,
    source: registry.Readable,
    target: registry.Location,
    *,
    force: bool,
    dry_run: bool,
) -> "_Row":
    context = app.context
    require_believed(context, load, source, target)
    with context.registries.open(target) as there:
        if not force:
            require_room(load, there)
        if dry_run:
            return _Row(load, target, "planned")
        title = f"importing {load.plugin_id} {load.head.manifest.version}"
        with transfer(app.out, title, load.size_bytes) as progress:
            carried = carry(context, load, source, there, force=force, progress=progress)
    return _Row(load, target, "copied", carried)


@dataclass(frozen=True, slots=True)
class _Row:
    """What came of one release; where it went, if not into an archive."""

    load: Load
    target: registry.Location | None
    outcome: str
    carried: Carried = _NOTHING
    error: AgentError | None = None

    @property
    def ref(self) -> str:
        where = self.load.plugin_id if self.target is None else self.target.text
        return f"{where}:{self.load.tags[0]}"

    def fields(self) -> dict[str, object]:
        head = self.load.head
        return {
            "id": self.load.plugin_id,
            "version": head.manifest.version,
            "ref": self.ref,
            "digest": self.load.oci.digest,
            "release": head.subject.release,
            "outcome": self.outcome,
            "detail": "" if self.error is None else self.error.message,
            "sent_bytes": self.carried.sent_bytes,
            "referrers": [
                {
                    "digest": one.descriptor.digest,
                    "artifact_type": None if one.manifest is None else kind_of(one.manifest),
                    "problem": self._problem(one.descriptor.digest) or one.problem,
                }
                for one in self.load.manifests
            ],
        }

    def print(self, app: App) -> None:
        """Print it for people."""
        words = {"planned": "would copy", "copied": "copied"}
        app.out.line(f"{words.get(self.outcome, self.outcome)} {self.ref}")
        if self.error is not None:
            return
        app.out.line(f"  digest  {self.load.oci.digest}")
        app.out.line(f"  release {self.load.head.subject.release}")
        if self.outcome == "copied":
            sent, all_bytes = self.carried.sent_bytes, self.load.size_bytes
            app.out.line(f"  sent    {sizes(sent)} of {sizes(all_bytes)}")
        for one in self.load.manifests:
            if self._problem(one.descriptor.digest) is None:
                app.out.line(f"  with    {line_of(one)}")

    def tell(self, app: App) -> int:
        """Tell what went wrong; the exit code of this one."""
        if self.error is not None:
            app.out.error(self.error.code, self.error.message, self.error.hint)
            return self.error.exit_code
        for digest, cause in self.carried.left.items():
            app.out.error(cause.code, f"{self.ref}: left behind {digest}: {cause.message}", None)
        return _INCOMPLETE if self.carried.left else 0

    def _problem(self, digest: str) -> str | None:
        left = self.carried.left.get(digest)
        return None if left is None else left.message


def _report(app: App, rows: Sequence[_Row], failures: Sequence[AgentError], *, path: Path) -> None:
    """Print the rows; decide the exit code from what each came to (contract §7)."""
    if app.out.as_json and (rows or not failures):
        app.out.document(plugins=[row.fields() for row in rows], path=str(path))
    codes = []
    for row in rows:
        if not app.out.as_json:
            row.print(app)
        codes.append(row.tell(app))
    for failure in failures:
        app.out.error(failure.code, failure.message, failure.hint)
        codes.append(failure.exit_code)
    app.end_with(codes)


def _final(output: Path) -> Path:
    """Where an archive is to appear: behind a link, and never in the place of a device.

    Raises:
        UsageError: Something else than a file is there.
    """
    final = Path(os.path.realpath(output))
    if final.exists() and not final.is_file():
        raise click.UsageError(f"cannot write to {output}: expected a file, or nothing there")
    return final


def _parsed(doing: str, text: str, context: Context) -> registry.Reference:
    require_no_path(doing, text)
    return registry.parse_reference(text, context.bases())
