"""``trusted_keys.toml`` is read strictly and edited without losing a word of it."""

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from agent.files import Files
from support.trust import (
    DAY,
    MIXED_ORDER,
    NOW,
    key_toml,
    private_key,
    store_toml,
    write_store,
)
from trust import (
    Deny,
    StoreBusyError,
    StoreError,
    TrustedKey,
    TrustStore,
    WeakKeyError,
    add_key,
    load,
    parse,
    parse_public,
    revoke,
)

FILES = Files()
UID = os.getuid()
KEY = private_key(1).public
OTHER = private_key(2).public
RELEASE = "ab" * 32

FULL = f"""\
# Edited by hand.
schema = 1
serial = 42                               # the highest ever seen
expires = 2027-02-22T00:00:00Z

[[key]]   # acme's release key
id = "{KEY.key_id}"
algorithm = "ed25519"
public = "{KEY.hex}"
owner = "acme"
scopes = ["org.example.*", "org.example"]
registries = ["registry.example.com/*"]
accepts = ["bare", "v1"]
max_capabilities = ["log", "network"]
not_before = 2026-01-01T00:00:00+01:00
not_after = 2028-01-01T00:00:00Z
status = "active"

[[deny]]
release = "{RELEASE}"
reason = "steals"

# The old key.
[[key]]
id = "{OTHER.key_id}"
algorithm = "ed25519"
public = "{OTHER.hex}"
owner = "acme"
scopes = ["*"]
status = "revoked"
revoked_at = 2026-06-01T00:00:00Z
reason = "lost"
keep_releases = ["{RELEASE}"]

[[deny]]
payload_sha256 = "{RELEASE}"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the place of a store in a folder of the user's own."""
    folder = tmp_path / "config"
    folder.mkdir(mode=0o700)
    return folder / "trusted_keys.toml"


def add(path: Path, key: str = "", **changes: Any) -> TrustedKey:
    """Add a key with the least it needs."""
    public = parse_public(key) if key else KEY
    arguments: dict[str, Any] = {"owner": "acme", "scopes": ["org.example.*"]}
    return add_key(path, public, files=FILES, uid=UID, **(arguments | changes))


def test_a_store_with_everything_is_read_as_it_says() -> None:
    """Each key of the contract's section 5 arrives as a value; times are in UTC."""
    store = parse(FULL.encode(), name="keys.toml")
    assert store == TrustStore(
        serial=42,
        expires=datetime(2027, 2, 22, tzinfo=UTC),
        keys=(
            TrustedKey(
                public=KEY,
                owner="acme",
                scopes=("org.example.*", "org.example"),
                registries=("registry.example.com/*",),
                accepts=("v1", "bare"),
                max_capabilities=frozenset({"log", "network"}),
                not_before=datetime(2025, 12, 31, 23, tzinfo=UTC),
                not_after=datetime(2028, 1, 1, tzinfo=UTC),
            ),
            TrustedKey(
                public=OTHER,
                owner="acme",
                scopes=("*",),
                status="revoked",
                revoked_at=datetime(2026, 6, 1, tzinfo=UTC),
                reason="lost",
                keep_releases=frozenset({RELEASE}),
            ),
        ),
        denies=(Deny(RELEASE, None, "steals"), Deny(None, RELEASE, "")),
    )


def test_what_is_left_out_has_the_narrow_default() -> None:
    """Optional keys: v1 only, active, no dates, no ceiling of its own."""
    store = parse(store_toml(key_toml(KEY)).encode(), name="keys.toml")
    assert store.keys == (TrustedKey(public=KEY, owner="acme", scopes=("org.example.*",)),)
    assert store.expires is None
    assert store.denies == ()


def test_a_store_without_keys_is_a_store() -> None:
    """Two lines are enough; it trusts nobody."""
    store = parse(b"schema = 1\nserial = 0\n", name="keys.toml")
    assert store == TrustStore.empty()


def test_a_missing_file_trusts_nobody_and_knows_its_place(path: Path) -> None:
    """No store is an empty store: the caller refuses everything and says where to add."""
    assert load(path, uid=UID) == TrustStore.empty(path)
    assert load(path.parent / "no" / "such" / "folder" / "keys.toml", uid=UID).keys == ()


def test_load_reads_the_file_and_remembers_its_place(path: Path) -> None:
    """The path of the store is the one that was asked for."""
    write_store(path, FULL)
    store = load(path, uid=UID)
    assert store.path == path
    assert store.serial == 42


def test_the_first_key_creates_store_and_folder(tmp_path: Path) -> None:
    """An operator without a store gets one: schema 1, serial 1, readable, theirs."""
    path = tmp_path / "new" / "config" / "trusted_keys.toml"
    entry = add(path)
    assert load(path, uid=UID) == TrustStore(1, None, (entry,), (), path)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == (0o755 if UID == 0 else 0o700)


def test_every_argument_arrives_in_the_file(path: Path) -> None:
    """What add_key returns is what the next load reads."""
    entry = add(
        path,
        owner='Jörg "the key" Acme \\ Söhne',
        scopes=("org.example.*", "org.example.tools"),
        registries=["registry.example.com:5000/*"],
        max_capabilities=["network", "log"],
        accepts=["bare", "v1"],
        not_before=NOW,
        not_after=(NOW + DAY).astimezone(timezone(timedelta(hours=2))),
    )
    assert load(path, uid=UID).keys == (entry,)
    assert entry.owner == 'Jörg "the key" Acme \\ Söhne'
    assert entry.max_capabilities == frozenset({"log", "network"})
    assert entry.accepts == ("v1", "bare")
    assert entry.not_after == NOW + DAY
    assert "not_before = 2026-07-01T12:00:00Z" in path.read_text()


def test_an_empty_ceiling_is_a_ceiling(path: Path) -> None:
    """max_capabilities = [] allows nothing; leaving it out sets no ceiling."""
    assert add(path, max_capabilities=[]).max_capabilities == frozenset()
    assert load(path, uid=UID).keys[0].max_capabilities == frozenset()


def test_adding_keeps_every_line_that_was_there(path: Path) -> None:
    """Comments, order and layout stay; only the serial changes and a table is added."""
    write_store(path, FULL)
    third = private_key(3).public
    add(path, third.hex, owner="other")
    before, after = FULL.splitlines(), path.read_text().splitlines()
    assert after[: len(before)] == [line.replace("serial = 42", "serial = 43") for line in before]
    assert "\n".join(after[len(before) :]) == "\n" + key_toml(
        third, 'accepts = ["v1"]', 'status = "active"', owner="other"
    ).rstrip("\n")


@pytest.mark.parametrize("ending", ["", "\n", "\n# the end", "\r\n"])
def test_adding_to_any_ending_keeps_all_keys(path: Path, ending: str) -> None:
    """A comment without a line break at the end swallows nothing."""
    text = store_toml(key_toml(KEY), f'[[deny]]\nrelease = "{RELEASE}"\n', key_toml(OTHER))
    path.write_bytes((text.rstrip("\n") + ending).encode())
    path.chmod(0o644)
    add(path, private_key(3).public.hex)
    store = load(path, uid=UID)
    assert [key.public for key in store.keys] == [KEY, OTHER, private_key(3).public]
    assert len(store.denies) == 1


def test_the_mode_of_the_file_is_kept(path: Path) -> None:
    """An operator who closed the file finds it closed."""
    write_store(path, store_toml()).chmod(0o600)
    add(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_followed_and_stays_a_link(path: Path, tmp_path: Path) -> None:
    """A store kept elsewhere and linked is edited where it is."""
    real = write_store(tmp_path / "real.toml", store_toml())
    path.symlink_to(real)
    add(path)
    assert path.is_symlink()
    assert len(load(path, uid=UID).keys) == len(load(real, uid=UID).keys) == 1


def test_a_dry_edit_writes_nothing(tmp_path: Path) -> None:
    """No file, no folder, no lock; the entry is the one that would be written."""
    path = tmp_path / "new" / "trusted_keys.toml"
    entry = add(path, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert add(path) == entry
    (path.parent / "trusted_keys.lock").unlink()
    before = path.read_bytes()
    revoke(path, KEY.key_id, reason="lost", now=NOW, files=FILES, uid=UID, dry_run=True)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_weak_key_is_not_added(path: Path) -> None:
    """Nothing is created for a key that proves nothing."""
    with pytest.raises(WeakKeyError, match="mixed order"):
        add(path, MIXED_ORDER)
    assert not path.exists()


@pytest.mark.parametrize("owner", ["acme", "somebody else"])
def test_a_key_is_added_once(path: Path, owner: str) -> None:
    """The same key again is refused, under the same owner or another."""
    add(path)
    before = path.read_bytes()
    for dry_run in (True, False):
        with pytest.raises(StoreError, match="'acme' holds there already"):
            add(path, owner=owner, dry_run=dry_run)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"owner": ""}, "owner: got ''"),
        ({"owner": "two\nlines"}, r"owner: got 'two\\nlines'"),
        ({"owner": "\udcff"}, "owner: got"),
        ({"scopes": []}, r"scopes: got \[\], expected a list"),
        ({"scopes": ["org.ex*"]}, r"scopes\[0\]: got 'org.ex\*'"),
        ({"scopes": ["*", "*"]}, r"scopes\[1\]: got '\*', expected each item once"),
        ({"registries": ["a b"]}, r"registries\[0\]"),
        ({"accepts": []}, r"accepts: got \[\]"),
        ({"accepts": ["v2"]}, r"accepts\[0\]: got 'v2'"),
        ({"max_capabilities": ["Log"]}, r"max_capabilities\[0\]: got 'Log'"),
        ({"not_before": NOW.replace(tzinfo=None)}, "not_before: got"),
        ({"not_before": NOW, "not_after": NOW}, "not_after: got"),
    ],
)
def test_a_wrong_argument_changes_nothing(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    """Arguments are judged as the file's keys are, before anything is written, dry or not."""
    for dry_run in (True, False):
        with pytest.raises(StoreError, match=message) as caught:
            add(path, **changes, dry_run=dry_run)
        assert str(caught.value).startswith(f"cannot add the key {KEY.key_id} to {path}: ")
    assert list(path.parent.iterdir()) == []


def test_revoking_marks_the_key_and_keeps_every_other_line(path: Path) -> None:
    """Three keys say it; comments and the other entries stay."""
    write_store(path, FULL)
    revoke(path, KEY.key_id, reason='lost "it"', now=NOW, files=FILES, uid=UID)
    expected = FULL.replace("serial = 42", "serial = 43").replace(
        'status = "active"\n',
        'status = "revoked"\nrevoked_at = 2026-07-01T12:00:00Z\nreason = "lost \\"it\\""\n',
    )
    assert path.read_text() == expected
    key = load(path, uid=UID).keys[0]
    assert (key.status, key.revoked_at, key.reason) == ("revoked", NOW, 'lost "it"')


def test_revoking_a_key_without_a_status_line(path: Path) -> None:
    """Active is the default, so there may be no line to change; the second key is meant."""
    third = private_key(3).public
    write_store(path, store_toml(key_toml(KEY), key_toml(OTHER), key_toml(third)))
    revoke(path, OTHER.key_id, reason="lost", now=NOW, files=FILES, uid=UID)
    assert [key.status for key in load(path, uid=UID).keys] == ["active", "revoked", "active"]


def test_revoking_the_last_line_of_a_file_without_a_line_break(path: Path) -> None:
    """A file may end where the status does."""
    write_store(path, store_toml(key_toml(KEY, "status = 'retiring'")).rstrip("\n"))
    revoke(path, KEY.key_id, reason="lost", now=NOW, files=FILES, uid=UID)
    assert load(path, uid=UID).keys[0].status == "revoked"


def test_revoking_twice_changes_nothing_the_second_time(path: Path) -> None:
    """The first date and reason stand, and the serial too."""
    add(path)
    revoke(path, KEY.key_id, reason="lost", now=NOW, files=FILES, uid=UID)
    before = path.read_bytes()
    revoke(path, KEY.key_id, reason="again", now=NOW + DAY, files=FILES, uid=UID)
    assert path.read_bytes() == before
    assert load(path, uid=UID).serial == 2


def test_revoking_an_unknown_key_is_an_error(path: Path) -> None:
    """A typing error must not look like a revocation."""
    with pytest.raises(StoreError, match="no such file"):
        revoke(path, KEY.key_id, reason="lost", now=NOW, files=FILES, uid=UID)
    add(path)
    with pytest.raises(StoreError, match="unknown id"):
        revoke(path, OTHER.key_id, reason="lost", now=NOW, files=FILES, uid=UID)


@pytest.mark.parametrize("reason", ["", "two\nlines", "\x1b[31m"])
def test_a_revocation_has_a_reason_of_one_line(path: Path, reason: str) -> None:
    """The reason is shown to people for years."""
    add(path)
    with pytest.raises(StoreError, match="reason: got"):
        revoke(path, KEY.key_id, reason=reason, now=NOW, files=FILES, uid=UID)
    assert load(path, uid=UID).serial == 1


INLINE = (
    f'schema = 1\nserial = 7\nkey = [{{id = "{KEY.key_id}", algorithm = "ed25519", '
    f'public = "{KEY.hex}", owner = "acme", scopes = ["*"]}}]\n'
)
HEADER_IN_TEXT = store_toml(
    '[[deny]]\nrelease = "' + RELEASE + '"\nreason = """\\\n[[key]]\\\n# why"""\n', key_toml(KEY)
)
TRIPLE_QUOTED = store_toml(key_toml(KEY, 'status = """active"""'))


@pytest.mark.parametrize("text", [INLINE, HEADER_IN_TEXT, TRIPLE_QUOTED])
def test_an_unusual_layout_is_left_alone(path: Path, text: str) -> None:
    """An edit that would not come out as meant is refused, and the file stands."""
    write_store(path, text)
    assert len(load(path, uid=UID).keys) == 1
    with pytest.raises(StoreError, match="edit it by hand"):
        revoke(path, KEY.key_id, reason="lost", now=NOW, files=FILES, uid=UID)
    assert path.read_text() == text


def test_a_list_of_inline_keys_takes_no_further_table(path: Path) -> None:
    """The same for adding: TOML cannot mix the two forms."""
    write_store(path, INLINE)
    with pytest.raises(StoreError, match="edit it by hand"):
        add(path, OTHER.hex)
    assert path.read_text() == INLINE


@pytest.mark.parametrize("written", ["0x2A", "+42", "4_2", "42#"])
def test_a_serial_in_any_notation_counts_on(path: Path, written: str) -> None:
    """TOML knows many ways to write 42; the next is 43."""
    write_store(path, f"schema = 1\n  'serial'\t= {written}\n")
    add(path)
    assert load(path, uid=UID).serial == 43


def test_a_broken_store_is_not_edited(path: Path) -> None:
    """First repair, then edit."""
    write_store(path, "schema = 1\nserial = 1\nsurprise = true\n")
    with pytest.raises(StoreError, match="surprise"):
        add(path)
    assert path.read_text().endswith("surprise = true\n")


def test_an_editor_at_work_makes_the_next_one_wait_and_say_so(path: Path) -> None:
    """Two edits cannot lose each other's key."""

    class Impatient(Files):
        def lock(self, path: Path, *, timeout_s: float):  # type: ignore[no-untyped-def]  # noqa: ANN202, ARG002
            return super().lock(path, timeout_s=0)

    with FILES.lock(path.with_suffix(".lock"), timeout_s=0), pytest.raises(StoreBusyError):
        add_key(path, KEY, owner="acme", scopes=["*"], files=Impatient(), uid=UID)
    assert not path.exists()


def test_a_failed_write_leaves_the_old_store(path: Path) -> None:
    """A full disk is an error, not an empty trust store."""

    class FullDisk(Files):
        def write_atomic(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
            super().write_atomic(path.with_name("other"), data[:10], mode=mode)
            raise OSError(28, "No space left on device")

    add(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        add_key(path, OTHER, owner="acme", scopes=["*"], files=FullDisk(), uid=UID)
    assert path.read_bytes() == before
    add(path, OTHER.hex)
    assert load(path, uid=UID).serial == 2
