"""A trust store that is broken, unsafe or made to confuse is refused by file and key."""

import grp
import os
import pwd
import threading
from pathlib import Path

import pytest

from agent.files import Files
from support.trust import NOW, key_toml, private_key, store_toml, write_store
from trust import StoreError, add_key, load, parse, revoke
from trust.permissions import is_private_group, is_private_to, problem_with

KEY = private_key(1).public
OTHER = private_key(2).public
UID = os.getuid()
HEX = "ab" * 32


def changed(name: str, value: str) -> str:
    """Return a store whose only key has one line replaced or added."""
    lines = key_toml(KEY).splitlines()
    kept = [line for line in lines if not line.startswith(f"{name} =")]
    return store_toml("\n".join((*kept, f"{name} = {value}")) + "\n")


def without(name: str) -> str:
    """Return a store whose only key lacks one line."""
    lines = key_toml(KEY).splitlines()
    return store_toml("\n".join(line for line in lines if not line.startswith(f"{name} =")))


BROKEN = {
    "not toml": ("= 1", "broken TOML"),
    "second table": ("schema = 1\nserial = 1\n[key]\n[key]", "broken TOML"),
    "no schema": ("serial = 1", "schema: got None, expected one of 1"),
    "newer schema": ("schema = 2\nserial = 1", "schema: got 2"),
    "schema true": ("schema = true\nserial = 1", "schema: got True"),
    "no serial": ("schema = 1", "serial: got None"),
    "negative serial": (store_toml(serial=-1), "serial: got -1"),
    "huge serial": (store_toml(serial=2**63), f"serial: got {2**63}"),
    "serial true": ("schema = 1\nserial = true", "serial: got True"),
    "serial text": ('schema = 1\nserial = "1"', "serial: got '1'"),
    "unknown top key": ("schema = 1\nserial = 1\nexpire = 1", "got 'expire', expected no key but"),
    "identity": (store_toml("[[identity]]\nowner = 'x'"), r"\[\[identity\]\].*not supported"),
    "namespace": (store_toml("[[namespace]]\npattern = 'x'"), r"\[\[namespace\]\].*not supported"),
    "naive expires": ("schema = 1\nserial = 1\nexpires = 2027-01-01T00:00:00", "with an offset"),
    "date expires": ("schema = 1\nserial = 1\nexpires = 2027-01-01", "with an offset"),
    "expires out of the calendar": (
        "schema = 1\nserial = 1\nexpires = 0001-01-01T00:00:00+23:00",
        "expires: got",
    ),
    "key is a table": ("schema = 1\nserial = 1\n[key]\nid = 'x'", r"start with \[\[key\]\]"),
    "key is a list of text": ("schema = 1\nserial = 1\nkey = ['x']", r"key\[0\]: got 'x'"),
    "unknown key": (changed("scope", '"*"'), r"key\[0\]: got 'scope', expected no key but id"),
    "no id": (without("id"), r"key\[0\].id: got None"),
    "wrong id": (changed("id", f'"{OTHER.key_id}"'), f"expected {KEY.key_id}"),
    "no algorithm": (without("algorithm"), r"key\[0\].algorithm: got None"),
    "other algorithm": (changed("algorithm", '"rsa"'), r"key\[0\].algorithm: got 'rsa'"),
    "no public": (without("public"), r"key\[0\].public: got None"),
    "short public": (changed("public", '"abcd"'), r"key\[0\].public: got 'abcd'"),
    "upper public": (changed("public", f'"{KEY.hex.upper()}"'), r"key\[0\].public"),
    "public with spaces": (changed("public", '"' + "ab " * 32 + '"'), r"key\[0\].public"),
    "public as number": (changed("public", "1"), r"key\[0\].public: got 1"),
    "no owner": (without("owner"), r"key\[0\].owner: got None"),
    "empty owner": (changed("owner", '""'), r"key\[0\].owner: got ''"),
    "owner with escape": (changed("owner", r'"a\u001b[2J"'), r"owner: got 'a\\x1b\[2J'"),
    "owner with line": (changed("owner", r'"a\nb"'), r"key\[0\].owner"),
    "long owner": (changed("owner", '"' + "a" * 1025 + '"'), r"key\[0\].owner"),
    "no scopes": (without("scopes"), r"key\[0\].scopes: got None"),
    "scopes as text": (changed("scopes", '"*"'), r"key\[0\].scopes: got '\*', expected a list"),
    "empty scopes": (changed("scopes", "[]"), r"key\[0\].scopes: got \[\]"),
    "scope number": (changed("scopes", "[1]"), r"key\[0\].scopes\[0\]: got 1"),
    "scope of one word": (changed("scopes", '["org"]'), r"scopes\[0\]: got 'org'"),
    "scope with a part star": (changed("scopes", '["org.ex*"]'), r"scopes\[0\]"),
    "scope with two stars": (changed("scopes", '["org.**"]'), r"scopes\[0\]"),
    "scope with a hole": (changed("scopes", '["org..x"]'), r"scopes\[0\]"),
    "scope in capitals": (changed("scopes", '["Org.example"]'), r"scopes\[0\]"),
    "long scope": (changed("scopes", '["org.' + "a" * 125 + '"]'), r"scopes\[0\]"),
    "scope twice": (changed("scopes", '["*", "*"]'), "each item once"),
    "empty registries": (changed("registries", "[]"), r"key\[0\].registries: got \[\]"),
    "registry with a part star": (changed("registries", '["*.example.com/*"]'), r"registries\[0\]"),
    "registry with a hole": (changed("registries", '["example.com//x"]'), r"registries\[0\]"),
    "empty registry": (changed("registries", '[""]'), r"registries\[0\]"),
    "accepts nothing": (changed("accepts", "[]"), r"key\[0\].accepts: got \[\]"),
    "accepts more": (changed("accepts", '["v1", "any"]'), r"accepts\[1\]: got 'any'"),
    "odd capability": (changed("max_capabilities", '["fs read"]'), r"max_capabilities\[0\]"),
    "naive date": (changed("not_before", "2026-01-01T00:00:00"), r"key\[0\].not_before"),
    "odd status": (changed("status", '"on"'), r"key\[0\].status: got 'on'"),
    "status true": (changed("status", "true"), r"key\[0\].status: got True"),
    "dates reversed": (
        store_toml(
            key_toml(KEY, "not_before = 2027-01-01T00:00:00Z", "not_after = 2026-01-01T00:00:00Z")
        ),
        r"key\[0\].not_after: got '2026-01-01T00:00:00\+00:00', expected a time after",
    ),
    "reason without revocation": (changed("reason", '"lost"'), r"key\[0\].status: got 'active'"),
    "date without revocation": (
        changed("revoked_at", "2026-01-01T00:00:00Z"),
        r"key\[0\].status: got 'active', expected \"revoked\"",
    ),
    "kept without revocation": (changed("keep_releases", f'["{HEX}"]'), r"key\[0\].status"),
    "odd kept release": (
        store_toml(key_toml(KEY, 'status = "revoked"', 'keep_releases = ["0.1.0"]')),
        r"key\[0\].keep_releases\[0\]: got '0.1.0'",
    ),
    "key twice": (store_toml(key_toml(KEY), key_toml(OTHER), key_toml(KEY)), "twice"),
    "two owners": (store_toml(key_toml(KEY), key_toml(KEY, owner="evil")), "'evil', expected"),
    "empty deny": (store_toml("[[deny]]\nreason = 'x'"), r"deny\[0\]: got 'neither'"),
    "double deny": (
        store_toml(f"[[deny]]\nrelease = '{HEX}'\npayload_sha256 = '{HEX}'"),
        r"deny\[0\]: got 'both'",
    ),
    "short deny": (store_toml("[[deny]]\nrelease = 'ab'"), r"deny\[0\].release: got 'ab'"),
    "unknown deny key": (store_toml(f"[[deny]]\nrelease = '{HEX}'\nid = 'x'"), "got 'id'"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_store_is_refused_by_file_and_key(text: str, message: str) -> None:
    """Nothing is skipped or guessed: what is not understood may be a restriction."""
    with pytest.raises(StoreError, match=message) as caught:
        parse(text.encode(), name="/etc/x/trusted_keys.toml")
    assert "/etc/x/trusted_keys.toml" in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"#" * ((1 << 20) + 1), "more than 1048576 bytes"),
        (b"key = " + b"[" * 100_000, "nested too deep|broken TOML"),
        (b"key = " + b"{a=" * 100_000, "nested too deep|broken TOML"),
    ],
)
def test_bytes_made_to_break_a_parser_are_a_store_error(data: bytes, message: str) -> None:
    """Bounds hold before and within the TOML library."""
    with pytest.raises(StoreError, match=message):
        parse(data, name="keys.toml")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a valid store in a folder of the user's own."""
    folder = tmp_path / "config"
    folder.mkdir(mode=0o700)
    return write_store(folder / "trusted_keys.toml", store_toml(key_toml(KEY)))


def add_other(path: Path) -> None:
    """Add a second key."""
    add_key(path, OTHER, owner="acme", scopes=["*"], files=Files(), uid=UID)


def test_a_world_writable_file_is_neither_read_nor_edited(path: Path) -> None:
    """Anybody could have put a key in."""
    path.chmod(0o646)
    for act in (lambda: load(path, uid=UID), lambda: add_other(path)):
        with pytest.raises(StoreError, match=f"0646, which everyone.*run `chmod go-w {path}`"):
            act()


def test_a_world_writable_folder_is_refused_even_with_a_sticky_bit(path: Path) -> None:
    """In a folder of everybody's, the file could be anybody's next time; no lock is left there."""
    for mode in (0o707, 0o1777):
        path.parent.chmod(mode)
        for act in (lambda: load(path, uid=UID), lambda: add_other(path)):
            with pytest.raises(StoreError, match=f"{path.parent}: got mode {mode:04o}"):
                act()
    assert not path.with_suffix(".lock").exists()


def test_the_folder_a_link_leads_to_is_checked_too(path: Path, tmp_path: Path) -> None:
    """A safe link to an unsafe place is unsafe."""
    link = tmp_path / "safe" / "trusted_keys.toml"
    link.parent.mkdir(mode=0o700)
    link.symlink_to(path)
    assert len(load(link, uid=UID).keys) == 1
    path.parent.chmod(0o707)
    with pytest.raises(StoreError, match=str(path.parent)):
        load(link, uid=UID)


def test_a_link_to_nowhere_is_an_error_for_an_edit(tmp_path: Path) -> None:
    """A store is not created in a folder that is not there behind a link."""
    link = tmp_path / "trusted_keys.toml"
    link.symlink_to(tmp_path / "missing" / "keys.toml")
    assert load(link, uid=UID).keys == ()
    with pytest.raises(StoreError, match="missing: No such file"):
        add_other(link)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """A FIFO, a folder and a loop of links in the store's place are errors at once."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for place in (fifo, folder):
        with pytest.raises(StoreError, match="not a regular file"):
            load(place, uid=UID)
    with pytest.raises(StoreError, match="Too many levels"):
        load(loop, uid=UID)


def test_an_oversize_store_is_not_read_whole(path: Path) -> None:
    """A sparse terabyte is refused like any long file."""
    os.truncate(path, 1 << 40)
    with pytest.raises(StoreError, match="more than 1048576 bytes"):
        load(path, uid=UID)


def status(mode: int, *, uid: int = 1000, gid: int = 1000) -> os.stat_result:
    """Return what stat says of a file of this mode and owner."""
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


def private(gid: int, uid: int) -> bool:
    """Say that each user has a private group of the same number."""
    return gid == uid


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o444])
def test_files_of_the_user_and_of_root_are_safe(mode: int) -> None:
    """Nobody else may write them."""
    assert problem_with(status(mode), uid=1000, is_private=private) is None
    assert problem_with(status(mode, uid=0, gid=0), uid=1000, is_private=private) is None


def test_files_of_somebody_else_are_not() -> None:
    """Another user's file is refused, also for root: that user could change it."""
    for uid in (1000, 0):
        problem = problem_with(status(0o600, uid=1001), uid=uid, is_private=private)
        assert problem == f"got the owner 1001, expected {uid} or root; run `chown {uid}"


def test_group_writable_is_safe_in_the_private_group_of_the_owner_only() -> None:
    """Debian's umask 002 with private groups is fine; a shared group is not."""
    assert problem_with(status(0o664), uid=1000, is_private=private) is None
    problem = problem_with(status(0o664, gid=50), uid=1000, is_private=private)
    assert problem is not None
    assert "0664, which the group 50 may write" in problem
    roots = problem_with(status(0o664, uid=0, gid=1000), uid=1000, is_private=private)
    assert roots is not None


def user(name: str, uid: int, gid: int) -> pwd.struct_passwd:
    """Return one line of the user database."""
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/sh"))


def group(gid: int, *members: str) -> grp.struct_group:
    """Return one line of the group database."""
    return grp.struct_group(("group", "x", gid, list(members)))


def test_a_private_group_has_one_member_by_either_database() -> None:
    """Others may be in a group by its list, or by having it as their first."""
    jane, john = user("jane", 1000, 1000), user("john", 1001, 100)
    assert is_private_to(1000, group(1000), [jane, john])
    assert is_private_to(1000, group(1000, "jane"), [jane, john])
    assert not is_private_to(1000, group(1000, "jane", "john"), [jane, john])
    assert not is_private_to(1000, group(1000), [jane, user("john", 1001, 1000)])
    assert not is_private_to(1000, group(50, "jane"), [jane, john])
    assert not is_private_to(1002, group(1000), [jane, john])


def test_the_system_is_asked_who_is_in_a_group() -> None:
    """A group nobody knows is nobody's own, and neither is a stranger's."""
    unknown = 2**31 - 7
    assert not is_private_group(unknown, UID)
    known = grp.getgrall()[0].gr_gid
    assert not is_private_group(known, unknown)


def test_a_file_writable_by_a_strange_group_is_refused_for_real(path: Path) -> None:
    """The check of one's own file asks the system about its group."""
    groups = [gid for gid in os.getgroups() if not is_private_group(gid, UID)]
    group_id = 2**31 - 7 if UID == 0 else (groups or [path.stat().st_gid])[0]
    os.chown(path, -1, group_id)
    path.chmod(0o664)
    if is_private_group(group_id, UID):
        assert load(path, uid=UID).keys
    else:
        with pytest.raises(StoreError, match=f"which the group {group_id} may write"):
            load(path, uid=UID)


def test_edits_at_the_same_time_lose_nothing(path: Path) -> None:
    """Eight writers, eight keys, eight serials."""
    start = threading.Barrier(8)
    errors: list[BaseException] = []

    def write(number: int) -> None:
        key = private_key(number).public
        start.wait(timeout=30)
        try:
            add_key(path, key, owner="acme", scopes=["*"], files=Files(), uid=UID)
        except BaseException as error:  # noqa: BLE001 - reported by the test below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    store = load(path, uid=UID)
    assert len(store.keys) == 9
    assert store.serial == 15


def test_a_revocation_is_seen_by_the_next_load(path: Path) -> None:
    """From the edit on, no reader sees the key as active."""
    revoke(path, KEY.key_id, reason="lost", now=NOW, files=Files(), uid=UID)
    assert load(path, uid=UID).keys[0].status == "revoked"
