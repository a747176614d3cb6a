"""trust: whom this host believes."""

import datetime as dt
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from agent.cli.app import App, capability_type, dry_run_flag, format_flag, global_flags, verb
from agent.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import trust


@click.group(name="trust", context_settings={"help_option_names": ["-h", "--help"]})
@global_flags
def trust_command() -> None:
    """Whom this host believes: the keys of trusted_keys.toml."""


@verb(
    name="add",
    examples="agent trust add publisher.pem.pub --owner acme --scope 'org.example.*'\n"
    "agent trust add 57bd13ab… --owner acme --scope org.example.hello --max-capability log",
)
@click.argument("key", metavar="KEY")
@click.option("--owner", required=True, metavar="NAME", help="Who holds the private key.")
@click.option(
    "--scope", "scopes", required=True, multiple=True, metavar="PATTERN", help="org.example.*"
)
@click.option("--registry-scope", "registries", multiple=True, metavar="PATTERN", help="host/*")
@click.option(
    "--max-capability",
    "ceiling",
    metavar="CAP",
    multiple=True,
    type=capability_type,
    help="A ceiling.",
)
@click.option("--accept-bare", is_flag=True, help="Believe signatures over the .wasm alone too.")
@click.option("--not-before", type=click.DateTime(), help="UTC.")
@click.option("--not-after", type=click.DateTime(), help="UTC.")
@dry_run_flag
@format_flag
def add_command(
    app: App,
    key: str,
    *,
    owner: str,
    scopes: tuple[str, ...],
    registries: tuple[str, ...],
    ceiling: tuple[str, ...],
    accept_bare: bool,
    not_before: dt.datetime | None,
    not_after: dt.datetime | None,
    dry_run: bool,
) -> None:
    """Believe a key for the plugins that its scopes name.

    KEY is 64 hex characters or a PEM file. A scope is whole dotted segments; "*" stands alone.
    """
    import trust

    public = _public(key)
    trust.refuse_weak(public)
    path = app.context.trust_store_path()
    before = app.context.trust_store()  # one that is broken, or older than it was, is told now
    highest = app.context.ledger.highest_serial(str(path)) or 0
    if not before.serial and highest:
        app.out.message(f"{path} is gone: it had serial {highest}; its keys and denials with it")
    add = functools.partial(
        trust.add_key,
        path,
        public,
        owner=owner,
        scopes=scopes,
        registries=registries,
        max_capabilities=ceiling or None,
        accepts=("v1", "bare") if accept_bare else ("v1",),
        not_before=_utc(not_before),
        not_after=_utc(not_after),
        newer_than=highest,
        files=app.context.files,
        uid=os.geteuid(),
    )
    add(dry_run=True)  # before the audit log says that it was decided
    if not dry_run:
        what = f"{owner} for {', '.join(scopes)} in {path}"
        with app.context.audit.deciding("trusted", what, key_id=public.key_id):
            add()
    if app.out.as_json:
        app.out.document(key_id=public.key_id, public=public.hex, path=str(path))
        return
    word = "would trust" if dry_run else "trusted"
    app.out.line(f"{word} {public.key_id} of {owner} for {', '.join(scopes)}")
    app.out.line(f"  in {path}")


@verb(name="revoke", examples="agent trust revoke 24f8bb9819133fe1 --reason 'laptop stolen'")
@click.argument("key_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT")
@dry_run_flag
@format_flag
def revoke_command(app: App, key_id: str, *, reason: str, dry_run: bool) -> None:
    """Stop believing a key; what it signed no longer loads unless the store keeps it."""
    import trust

    path = app.context.trust_store_path()
    key = _find(app, key_id)
    now = dt.datetime.fromtimestamp(app.context.clock(), dt.UTC)
    files, uid = app.context.files, os.geteuid()
    revoke = functools.partial(
        trust.revoke, path, key_id, reason=reason, now=now, files=files, uid=uid
    )
    revoke(dry_run=True)  # before the audit log says that it was decided
    if not dry_run:
        what = f"{key.owner} in {path}: {reason}"
        with app.context.audit.deciding("revoked", what, key_id=key_id):
            revoke()
    if app.out.as_json:
        app.out.document(key_id=key_id, path=str(path))
        return
    app.out.line(f"{'would revoke' if dry_run else 'revoked'} {key_id}: {reason}")
    app.out.line(f"  in {path}")


@verb(name="list", examples="agent trust list --format json")
@format_flag
def list_command(app: App) -> None:
    """List the keys that this host believes."""
    store = app.context.trust_store()
    rows = [_row(key) for key in store.keys]
    if app.out.as_json:
        app.out.document(path=str(store.path), serial=store.serial, keys=rows)
        return
    app.out.table(
        ("KEY ID", "OWNER", "STATUS", "SCOPES"),
        [
            (r["id"], r["owner"], r["status"], " ".join(cast("list[str]", r["scopes"])))
            for r in rows
        ],
    )
    if not rows:
        app.out.message(f"nobody is trusted: there is no key in {store.path}")
        app.out.message("  try: agent trust add KEY --owner NAME --scope PATTERN")


@verb(name="show", examples="agent trust show 24f8bb9819133fe1")
@click.argument("key_id", metavar="ID")
@format_flag
def show_command(app: App, key_id: str) -> None:
    """Show one key."""
    row = _row(_find(app, key_id))
    if app.out.as_json:
        app.out.document(**row)
        return
    app.out.fields(row)


@verb(name="check", examples="agent trust check")
@format_flag
def check_command(app: App) -> None:
    """Check the trust store: form, file modes, serial, and every key for weakness."""
    import trust

    store = app.context.trust_store()
    for key in store.keys:
        trust.refuse_weak(key.public)
    if app.out.as_json:
        app.out.document(
            path=str(store.path),
            serial=store.serial,
            keys=len(store.keys),
            denies=len(store.denies),
            expires=_iso(store.expires),
        )
        return
    if not store.serial:
        app.out.line(f"no trust store at {store.path}: everything is denied")
        return
    app.out.line(
        f"{store.path}: sound; serial {store.serial}, {len(store.keys)} keys, "
        f"{len(store.denies)} denials, expires {_iso(store.expires) or 'never'}"
    )


for _command in (add_command, revoke_command, list_command, show_command, check_command):
    trust_command.add_command(_command)


def _public(text: str) -> "trust.PublicKey":
    import trust

    path = Path(text)
    if path.exists():
        return trust.load_public(path)
    if "/" in text or path.suffix:
        raise UsageError(
            f"cannot read the key {text}: there is no such file",
            hint="KEY is 64 hex characters or a PEM file; agent keygen FILE makes one",
        )
    return trust.parse_public(text)


def _find(app: App, key_id: str) -> "trust.TrustedKey":
    store = app.context.trust_store()
    for key in store.keys:
        if key.public.key_id == key_id:
            return key
    if len(key_id) != 16:  # noqa: PLR2004 - the length of a key id
        raise UsageError(f"cannot use the key id {key_id!r}: expected 16 hex characters")
    raise NotFoundError(f"cannot find the key {key_id} in {store.path}", hint="agent trust list")


def _row(key: "trust.TrustedKey") -> dict[str, object]:
    return {
        "id": key.public.key_id,
        "owner": key.owner,
        "status": key.status,
        "scopes": list(key.scopes),
        "registries": list(key.registries),
        "accepts": list(key.accepts),
        "max_capabilities": None if key.max_capabilities is None else sorted(key.max_capabilities),
        "not_before": _iso(key.not_before),
        "not_after": _iso(key.not_after),
        "revoked_at": _iso(key.revoked_at),
        "reason": key.reason,
        "keep_releases": sorted(key.keep_releases),
        "public": key.public.hex,
    }


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.replace(tzinfo=dt.UTC)
