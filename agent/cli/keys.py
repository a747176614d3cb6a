"""keygen, sign, verify."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.app import (
    App,
    dry_run_flag,
    format_flag,
    is_path,
    manifest_at,
    path_hint,
    verb,
)
from agent.errors import UsageError
from agent.files import Files
from agent.pipeline.heads import find_head
from agent.verbs.publishing import judge_folder, read_folder, sign_folder

if TYPE_CHECKING:
    import trust

_PATH = click.Path(path_type=Path)


@verb(name="keygen", examples="agent keygen publisher.pem")
@click.argument("file", type=_PATH)
@dry_run_flag
@format_flag
def keygen_command(app: App, file: Path, *, dry_run: bool) -> None:
    """Make an Ed25519 key pair.

    The private key (PKCS#8 PEM) goes to FILE, readable by you alone and never over an existing
    file; the public key goes to FILE.pub.
    """
    import trust

    public_file = file.with_name(f"{file.name}.pub")
    if dry_run:
        _would_create(app, file, public_file)
        return
    key = trust.PrivateKey.generate()
    _create(file, key.to_pem(), mode=0o600)
    try:
        _create(public_file, key.public.to_pem(), mode=0o644)
    except BaseException:
        file.unlink()
        raise
    if app.out.as_json:
        app.out.document(key_id=key.public.key_id, public=key.public.hex, path=str(file))
        return
    app.out.line(f"key id  {key.public.key_id}")
    app.out.line(f"private {file} (keep it secret)")
    app.out.line(f"public  {public_file} (give it to operators)")


def _would_create(app: App, *paths: Path) -> None:
    """``--dry-run``: no key is made, as one that is thrown away would have an id to mistake."""
    if not paths[0].parent.is_dir():
        raise _no_folder(paths[0])
    for path in paths:
        if os.path.lexists(path):
            raise _exists(path)
    if app.out.as_json:
        app.out.document(key_id=None, public=None, path=str(paths[0]))
        return
    for path in paths:
        app.out.line(f"would write {path}")


def _create(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet, durably; all of it, or there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise _exists(path) from None
    except (FileNotFoundError, NotADirectoryError):
        raise _no_folder(path) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Files().sync_folder(path.parent)
    except BaseException:
        path.unlink()
        raise


def _no_folder(path: Path) -> UsageError:
    return UsageError(
        f"cannot write {path}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}"
    )


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"cannot write {path}: it exists, and a key is never overwritten",
        hint="choose another name",
    )


@verb(name="sign", examples="agent sign ./hello --key publisher.pem")
@click.argument("path")
@click.option("--key", "key_file", type=_PATH, required=True, metavar="FILE", help="Private key.")
@dry_run_flag
@format_flag
def sign_command(app: App, path: str, key_file: Path, *, dry_run: bool) -> None:
    """Sign a plugin folder: write the .sig that its manifest names.

    PATH is the folder or its .toml.
    """
    import trust

    folder = read_folder(app.context, manifest_at(path))
    key = trust.load_private(key_file)
    if not dry_run:
        sign_folder(folder, key, app.context.files)
    release = folder.subject.release
    if app.out.as_json:
        app.out.document(
            id=folder.manifest.id,
            version=folder.manifest.version,
            release=release,
            key_id=key.public.key_id,
            path=str(folder.signature_path),
        )
        return
    signed, wrote = ("would sign", "would write") if dry_run else ("signed ", "wrote  ")
    app.out.line(f"{signed} {folder.manifest.id} {folder.manifest.version}")
    app.out.line(f"release {release}")
    app.out.line(f"key id  {key.public.key_id}")
    app.out.line(f"{wrote} {folder.signature_path}")


@verb(
    name="verify",
    examples="agent verify ./hello\nagent verify org.example.hello:0.2.0 --format json",
)
@click.argument("what", metavar="PATH|REF")
@format_flag
def verify_command(app: App, what: str) -> None:
    """Check a plugin folder, or an artifact in a registry, and print every finding.

    Of an artifact the manifest and signature are fetched; its code is checked by the digest
    that both name. Ends with 7 where it is refused.
    """
    if is_path(what):
        folder = read_folder(app.context, manifest_at(what))
        subject, verdict = folder.subject, judge_folder(app.context, folder)
    else:
        subject, evidence = _remote(app, what)
        verdict = app.context.judge(subject, evidence)
    if app.out.as_json:
        app.out.document(
            id=subject.id,
            version=subject.version,
            release=subject.release,
            accepted=verdict.accepted,
            binding=verdict.binding,
            key_id=verdict.key_id,
            owner=verdict.owner,
            findings=[{"rule": f.rule, "ok": f.ok, "detail": f.detail} for f in verdict.findings],
        )
    else:
        for finding in verdict.findings:
            app.out.line(f"{'ok ' if finding.ok else 'NO '} {finding.rule}: {finding.detail}")
        word = "accepted" if verdict.accepted else "refused"
        app.out.line(f"{word}: {subject.id} {subject.version}, release {subject.release}")
    if not verdict.accepted:
        app.exit_code = 7


def _remote(app: App, text: str) -> "tuple[trust.Subject, trust.Evidence]":
    import registry
    import trust

    try:
        reference, head = find_head(app.context, text)
    except registry.ReferenceFormatError as error:
        raise UsageError(str(error), hint=path_hint("verify", text)) from error
    return head.subject, trust.Evidence(
        signature=head.signature, repository=reference.location.text
    )
