"""The trust store on disk: read with its permissions checked, edited with its comments kept.

The only module of this room that touches the disk, but for reading a private key.
"""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from trust import edit
from trust.errors import StoreBusyError, StoreError
from trust.fields import Table
from trust.keys import PublicKey, refuse_weak
from trust.model import Binding, TrustedKey, TrustStore
from trust.permissions import problem_with
from trust.reading import read_regular
from trust.schema import MAX_STORE_BYTES, parse, read_key

LOCK_TIMEOUT_S = 30.0
_FILE_MODE = 0o644  # public keys: nothing in it is secret
_LAYOUT = (
    "got a file laid out in a way this edit does not follow, expected plain [[key]] tables and "
    "`serial = N` on lines of their own; edit it by hand"
)


class Files(Protocol):
    """The durable writes this room needs."""

    def make_folder(self, path: Path, *, mode: int) -> None:
        """Create a folder and its parents; an existing one stays as it is."""

    def write_atomic(self, path: Path, data: bytes, *, mode: int) -> None:
        """Replace a file in one step."""

    def lock(self, path: Path, *, timeout_s: float) -> AbstractContextManager[None]:
        """Hold a lock between processes; TimeoutError where another holds it all that time."""


def load(path: Path, *, uid: int) -> TrustStore:
    """Read a trust store and check that nobody else could have written it.

    A symbolic link is followed; then its folder is checked as well as the file's.

    Args:
        path: The ``trusted_keys.toml``.
        uid: The user who relies on it; the file and its folder must be theirs or root's.

    Returns:
        The store; an empty one, which trusts nobody, where there is no file.

    Raises:
        StoreError: The file cannot be read, it or its folder belongs to someone else or may be
            written by others (by a group, unless that is the owner's private one; contract,
            section 5), or its content is refused by :func:`parse`.
    """
    content = _read(path, uid=uid)
    if content is None:
        return TrustStore.empty(path)
    return dataclasses.replace(parse(content.data, name=str(path)), path=path)


def add_key(  # noqa: PLR0913 - one argument per key of the [[key]] table
    path: Path,
    key: PublicKey,
    *,
    owner: str,
    scopes: Iterable[str],
    files: Files,
    uid: int,
    registries: Iterable[str] = (),
    max_capabilities: Iterable[str] | None = None,
    accepts: Iterable[Binding] = ("v1",),
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    newer_than: int = 0,
    dry_run: bool = False,
) -> TrustedKey:
    """Add a key to the store, or create the store with it; the serial grows by one.

    What the file holds already stays as it is, comments included.

    Args:
        path: The ``trusted_keys.toml``; its folder is created where missing (0700; 0755 for
            root's, which every user's agent reads).
        key: The key.
        owner: Who holds the private half; one line of text.
        scopes: The plugin ids it may sign, see :func:`matches_scope`.
        files: Does the writing.
        uid: The user who relies on the store, see :func:`load`.
        registries: Where its releases may come from; empty = anywhere.
        max_capabilities: The most its plugins may be granted; None = no ceiling of its own.
        accepts: The kinds of signature believed from it.
        not_before: No new release is accepted earlier; timezone-aware.
        not_after: No new release is accepted from then on; timezone-aware.
        newer_than: The highest serial that was ever seen of this store; the new one is higher,
            also where the file has gone since.
        dry_run: Judge all of it, and write nothing: no file, no folder, no lock.

    Returns:
        The entry as it now stands in the file, or would.

    Raises:
        WeakKeyError: The key is weak.
        StoreError: The store is broken or unsafe (see :func:`load`), an argument is not of its
            form, or the key is in the store already. Nothing was changed.
        StoreBusyError: Another process was editing the store for 30 s.
        OSError: The disk refused the write; the old file stands.
    """
    refuse_weak(key)
    what = f"cannot add the key {key.key_id} to {path}"
    table = edit.key_table(
        key,
        owner=owner,
        scopes=scopes,
        registries=registries,
        max_capabilities=max_capabilities,
        accepts=accepts,
        not_before=not_before,
        not_after=not_after,
    )
    entry = read_key(Table(table, what=what))
    if not dry_run and not path.parent.exists():
        files.make_folder(path.parent, mode=0o755 if uid == 0 else 0o700)
    with _editing(path, files=files, uid=uid, dry_run=dry_run) as old:
        before = parse(old.data, name=str(path))
        for known in before.keys:
            if known.public == key:
                raise StoreError(
                    f"{what}: got a key that {known.owner!a} holds there already "
                    f"({known.status}), expected a new one; see `agent trust show {key.key_id}`"
                )
        serial = max(before.serial, newer_than) + 1
        after = dataclasses.replace(before, serial=serial, keys=(*before.keys, entry))
        data = edit.append_key(old.data, table, serial=after.serial)
        _check_edit(old, data, after, what=what)
        if not dry_run:
            files.write_atomic(old.path, data, mode=old.mode)
    return entry


def revoke(
    path: Path,
    key_id: str,
    *,
    reason: str,
    now: datetime,
    files: Files,
    uid: int,
    dry_run: bool = False,
) -> None:
    """Mark a key as revoked; the serial grows by one. Done twice, it changes nothing.

    Args:
        path: The ``trusted_keys.toml``.
        key_id: The 16 hex characters of the key.
        reason: Why; one line of text.
        now: When; timezone-aware.
        files: Does the writing.
        uid: The user who relies on the store, see :func:`load`.
        dry_run: See :func:`add_key`.

    Raises:
        StoreError: The store is broken, unsafe, or knows no such key, or the reason is not one
            line of text. Nothing was changed.
        StoreBusyError: Another process was editing the store for 30 s.
        OSError: The disk refused the write; the old file stands.
    """
    what = f"cannot revoke the key {key_id!a} in {path}"
    reason = Table({"reason": reason}, what=what).take_text("reason")
    moment = now.astimezone(UTC).replace(microsecond=0)
    if not path.exists():
        raise StoreError(f"{what}: got no such file, expected a trust store; try `agent trust add`")
    with _editing(path, files=files, uid=uid, dry_run=dry_run) as old:
        before = parse(old.data, name=str(path))
        index = next((i for i, k in enumerate(before.keys) if k.public.key_id == key_id), None)
        if index is None:
            raise StoreError(f"{what}: got an unknown id, expected one of `agent trust list`")
        key = before.keys[index]
        if key.status == "revoked":
            return
        revoked = dataclasses.replace(key, status="revoked", revoked_at=moment, reason=reason)
        keys = (*before.keys[:index], revoked, *before.keys[index + 1 :])
        after = dataclasses.replace(before, serial=before.serial + 1, keys=keys)
        data = edit.revoke_key(old.data, index, reason=reason, at=moment, serial=after.serial)
        _check_edit(old, data, after, what=what)
        if not dry_run:
            files.write_atomic(old.path, data, mode=old.mode)


@dataclass(frozen=True, slots=True)
class _Content:
    """A store file as it is: its real place (links resolved), mode and bytes."""

    path: Path
    mode: int
    data: bytes


@contextlib.contextmanager
def _editing(path: Path, *, files: Files, uid: int, dry_run: bool) -> Iterator[_Content]:
    """Hold the store's lock, unless nothing is written; give its content, or a new one's."""
    real = Path(os.path.realpath(path))
    if dry_run:
        yield _read(path, uid=uid) or _Content(real, _FILE_MODE, edit.NEW_STORE)
        return
    # Before the lock file: in a folder open to others, that name could be a link of theirs.
    _check_folders(path, real, uid=uid)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock(real.with_suffix(".lock"), timeout_s=LOCK_TIMEOUT_S))
        except TimeoutError as error:
            raise StoreBusyError(
                f"cannot edit the trust store {path}: got a lock held by another process for "
                f"{LOCK_TIMEOUT_S:.0f} s, expected it free; try again"
            ) from error
        yield _read(path, uid=uid) or _Content(real, _FILE_MODE, edit.NEW_STORE)


def _read(path: Path, *, uid: int) -> _Content | None:
    """Read the file, checking who could have written it; None where there is none."""
    real = Path(os.path.realpath(path))
    what = f"cannot read the trust store {path}"
    try:
        status, data = read_regular(real, max_bytes=MAX_STORE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror}; check its path and permissions") from error
    _check(real, status, uid=uid)
    _check_folders(path, real, uid=uid)
    return _Content(real, stat.S_IMODE(status.st_mode), data)


def _check_folders(path: Path, real: Path, *, uid: int) -> None:
    for folder in {path.parent, real.parent}:
        try:
            status = folder.stat()
        except OSError as error:
            raise StoreError(
                f"cannot use the trust store {path}: {folder}: {error.strerror}"
            ) from error
        _check(folder, status, uid=uid)


def _check(place: Path, status: os.stat_result, *, uid: int) -> None:
    problem = problem_with(status, uid=uid)
    if problem is not None:
        raise StoreError(f"cannot trust what is in {place}: {problem} {place}`")


def _check_edit(old: _Content, data: bytes, after: TrustStore, *, what: str) -> None:
    """Refuse an edited store that does not say exactly what it should.

    The edit works on the text, to keep comments and layout; reading the result back is what
    makes it safe.
    """
    try:
        as_meant = parse(data, name=str(old.path)) == after
    except StoreError as error:
        raise StoreError(f"{what}: {_LAYOUT}") from error
    if not as_meant:
        raise StoreError(f"{what}: {_LAYOUT}")
