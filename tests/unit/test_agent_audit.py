"""The audit log: every change to it is found; nothing that a crash leaves is taken for one."""

import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.audit.check import MAX_LINE_BYTES, Report
from agent.audit.log import AuditLog, Entry
from agent.files import Files
from agent.ledger.ledger import Ledger
from agent.model import AuditHead
from support.agent import NOW, PLUGIN_ID, Crash, DyingFiles, DyingLedger, Fuse

LINES = 11
SEGMENT_BYTES = 1300
"""Three lines; the log of eleven has four segments: 1-3, 4-6, 7-9, 10-11."""
PROCESS_WAIT_S = 30
APPENDS = 20

Segments = dict[int, list[bytes]]


class TearingFiles(DyingFiles):
    """A disk on which a line is written in two parts: the process can end between them."""

    def append_line(self, path: Path, line: bytes, *, mode: int = 0o600) -> None:
        """Two effects."""
        half = len(line) // 2
        for part in (line[:half], line[half:]):
            self._fuse.burn()
            super().append_line(path, part, mode=mode)


class FullFiles(DyingFiles):
    """A disk that takes the line's bytes and then fails to make them durable."""

    def sync_file(self, path: Path) -> None:
        """Fail for segments."""
        if path.suffix == ".jsonl":
            raise OSError(28, "No space left on device")


def entry(reason: str = "as planned", **fields: Any) -> Entry:
    """A decision."""
    return replace(Entry(NOW, 0, "root", "update", "committed", reason, PLUGIN_ID), **fields)


@contextmanager
def opened(root: Path, fuse: Fuse | None = None) -> Iterator[tuple[AuditLog, Ledger]]:
    """The log under ``root``, and its ledger."""
    fuse = fuse or Fuse()
    ledger = DyingLedger(root / "state.db", fuse)
    try:
        files = TearingFiles(fuse)
        yield AuditLog(root / "audit", ledger, files, segment_bytes=SEGMENT_BYTES), ledger
    finally:
        ledger.close()


def write(root: Path, count: int = LINES) -> None:
    """Write lines, by a process that ends well."""
    with opened(root) as (log, _):
        for number in range(1, count + 1):
            log.append(entry(f"decision {number:02}"))


def verified(root: Path) -> Report:
    """What a check by another process says."""
    with opened(root) as (log, _):
        return log.verify()


def load(root: Path) -> Segments:
    """Segment -> its lines."""
    paths = sorted((root / "audit").glob("*.jsonl"))
    return {int(path.stem): path.read_bytes().splitlines(keepends=True) for path in paths}


def store(root: Path, segments: Segments) -> None:
    """Make the folder hold these segments and no others."""
    for path in (root / "audit").glob("*.jsonl"):
        path.unlink()
    for number, lines in segments.items():
        (root / "audit" / f"{number:06}.jsonl").write_bytes(b"".join(lines))


def fields_of(root: Path) -> list[dict[str, Any]]:
    """All whole lines, parsed."""
    lines = [line for lines in load(root).values() for line in lines]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def edited(line: bytes, **fields: Any) -> bytes:
    """The line with other values."""
    return json.dumps({**json.loads(line), **fields}, separators=(",", ":")).encode() + b"\n"


# -- tampering: each changes what was read; the problem shows at (segment, line)


def edit(segment: int, line: int, **fields: Any) -> Callable[[Segments], None]:
    """Change fields of a line; both count from 1."""

    def tamper(segments: Segments) -> None:
        lines = segments[segment]
        lines[line - 1] = edited(lines[line - 1], **fields)

    return tamper


def edit_and_chain_anew(segments: Segments) -> None:
    """Edit a line and make every later one fit it."""
    previous = None
    for lines in segments.values():
        for index, line in enumerate(lines):
            number = json.loads(line)["number"]
            changes = {"reason": "forged"} if number == 2 else {}
            if previous is not None:
                changes["previous"] = previous
            lines[index] = edited(line, **changes)
            previous = hashlib.sha256(lines[index]).hexdigest()


def chain_one_anew(segments: Segments) -> None:
    """Edit a line and make the next one fit it, but none after that."""
    one = edited(segments[1][0], reason="forged")
    two = edited(segments[1][1], previous=hashlib.sha256(one).hexdigest())
    segments[1][:2] = [one, two]


def remove(segment: int, line: int) -> Callable[[Segments], None]:
    """Take a line out."""
    return lambda segments: segments[segment].__delitem__(line - 1)


def swap(one: tuple[int, int], other: tuple[int, int]) -> Callable[[Segments], None]:
    """Let two lines change places."""

    def tamper(segments: Segments) -> None:
        (a, b), (c, d) = one, other
        first, second = segments[a][b - 1], segments[c][d - 1]
        segments[a][b - 1], segments[c][d - 1] = second, first

    return tamper


def swap_segments(segments: Segments) -> None:
    """Let two segments change names."""
    segments[2], segments[3] = segments[3], segments[2]


def insert(segment: int, line: int, data: bytes | None) -> Callable[[Segments], None]:
    """Put a line in; None = a copy of the one that stands there."""

    def tamper(segments: Segments) -> None:
        lines = segments[segment]
        lines.insert(line - 1, lines[line - 1] if data is None else data)

    return tamper


def insert_chained(segments: Segments) -> None:
    """Put a line in that fits what is before it."""
    previous = hashlib.sha256(segments[2][1]).hexdigest()
    segments[2].insert(2, edited(segments[2][2], reason="forged", previous=previous))


def append_foreign(*, segment: int, data: bytes) -> Callable[[Segments], None]:
    """Put bytes at a segment's end."""
    return lambda segments: segments[segment].append(data)


def append_chained(segments: Segments, first: int = LINES + 1) -> None:
    """Add lines that fit, two of them beyond the head: a crash leaves one at most."""
    for number in range(first, LINES + 3):
        last = segments[4][-1]
        previous = hashlib.sha256(last).hexdigest()
        segments[4].append(edited(last, number=number, previous=previous))


def cut_half_a_line(segment: int) -> Callable[[Segments], None]:
    """Cut a segment within its last line."""

    def tamper(segments: Segments) -> None:
        segments[segment][-1] = segments[segment][-1][:-40]

    return tamper


def cut_and_go_on(segments: Segments) -> None:
    """The last line goes, and others take its place: more than there were."""
    remove(4, 2)(segments)
    append_chained(segments, LINES)


def join_lines(segments: Segments) -> None:
    """Take a line feed out."""
    segments[1][0] = segments[1][0].rstrip(b"\n")


def spaced(segments: Segments) -> None:
    """The same JSON, other bytes."""
    segments[1][0] = segments[1][0].replace(b'":', b'": ', 1)


def without(*numbers: int) -> Callable[[Segments], None]:
    """Remove whole segments."""

    def tamper(segments: Segments) -> None:
        for number in numbers:
            del segments[number]

    return tamper


TAMPERINGS: dict[str, tuple[Callable[[Segments], None], tuple[int, int]]] = {
    "edit the first line": (edit(1, 1, reason="forged"), (1, 2)),
    "edit within a segment": (edit(1, 2, user="else"), (1, 3)),
    "edit the last line of a segment": (edit(1, 3, outcome="refused"), (2, 1)),
    "edit the last line of all": (edit(4, 2, reason="forged"), (4, 0)),
    "edit a number": (edit(2, 2, number=7), (2, 2)),
    "edit a number to text": (edit(2, 2, number="5"), (2, 2)),
    "edit the previous hash": (edit(2, 2, previous="0" * 64), (2, 2)),
    "edit the time": (edit(3, 1, at="2026-01-01T00:00:00.000+00:00"), (3, 2)),
    "edit bytes, not meaning": (spaced, (1, 2)),
    "edit and fit the next line to it": (chain_one_anew, (1, 3)),
    "edit and fit all later lines to it": (edit_and_chain_anew, (4, 0)),
    "remove the first line": (remove(1, 1), (1, 1)),
    "remove a line": (remove(2, 2), (2, 2)),
    "remove the first of a segment": (remove(3, 1), (3, 1)),
    "remove the last of a segment": (remove(2, 3), (3, 1)),
    "reorder within a segment": (swap((2, 1), (2, 2)), (2, 1)),
    "reorder across segments": (swap((1, 3), (2, 1)), (1, 3)),
    "reorder the last two": (swap((4, 1), (4, 2)), (4, 1)),
    "reorder segments": (swap_segments, (2, 1)),
    "insert a copy": (insert(2, 2, None), (2, 3)),
    "insert a line that fits": (insert_chained, (2, 4)),
    "insert a foreign line": (insert(2, 2, b"hello\n"), (2, 2)),
    "insert an empty line": (insert(1, 1, b"\n"), (1, 1)),
    "insert deep JSON": (insert(1, 2, b"[" * 100_000 + b"\n"), (1, 2)),
    "insert a line without an end": (insert(1, 2, b"x" * (MAX_LINE_BYTES + 9)), (1, 2)),
    "insert bytes at a segment's end": (append_foreign(segment=1, data=b'{"num'), (2, 1)),
    "append a foreign line": (append_foreign(segment=4, data=b"{}\n"), (4, 3)),
    "append two lines that fit": (append_chained, (4, 0)),
    "cut, and go on beyond the head": (cut_and_go_on, (4, 0)),
    "join two lines": (join_lines, (1, 1)),
    "cut the last line": (remove(4, 2), (4, 0)),
    "cut within the last line": (cut_half_a_line(4), (4, 0)),
    "cut within a segment's last line": (cut_half_a_line(2), (3, 1)),
    "cut at a segment's border": (without(4), (3, 0)),
    "cut two segments": (without(3, 4), (2, 0)),
    "remove the first segment": (without(1), (1, 0)),
    "remove a segment": (without(2), (2, 0)),
    "remove all": (without(1, 2, 3, 4), (1, 0)),
}


@pytest.mark.parametrize("case", TAMPERINGS)
def test_tampering_is_found_where_it_is(tmp_path: Path, case: str) -> None:
    """The first problem names the segment and the line; later lines do not cover it up."""
    tamper, (segment, line) = TAMPERINGS[case]
    write(tmp_path)
    segments = load(tmp_path)
    assert [len(lines) for lines in segments.values()] == [3, 3, 3, 2]
    assert verified(tmp_path).is_sound
    tamper(segments)
    store(tmp_path, segments)

    problem = verified(tmp_path).problems[0]
    assert (problem.segment, problem.line) == (f"{segment:06}.jsonl", line), problem
    write(tmp_path, 4)
    assert not verified(tmp_path).is_sound
    with opened(tmp_path) as (log, _):
        assert [fields["reason"] for fields in log.latest(limit=1)] == ["decision 04"]


HEADS: dict[str, Callable[[AuditHead], AuditHead]] = {
    "another hash": lambda head: replace(head, hash="f" * 64),
    "one line ahead": lambda head: replace(head, lines=head.lines + 1),
    "far ahead": lambda head: replace(head, lines=head.lines + 100),
    "one line behind, of another log": lambda head: replace(head, lines=head.lines - 1),
    "two lines behind": lambda head: replace(head, lines=head.lines - 2),
    "ahead in bytes and lines": lambda head: replace(
        head, lines=head.lines + 1, size_bytes=head.size_bytes + 400
    ),
    "another segment": lambda head: replace(head, segment=9, lines=head.lines + 1),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_replaced_head_is_found(tmp_path: Path, case: str) -> None:
    """The log is whole, the ledger knows another end: broken, and it stays so."""
    write(tmp_path)
    with opened(tmp_path) as (log, ledger):
        ledger.move_audit_head(HEADS[case](ledger.audit_head()))
        problem = log.verify().problems[0]
        assert (problem.segment, problem.line) == ("000004.jsonl", 0)
        log.append(entry())
        assert not log.verify().is_sound


def test_a_later_decision_names_the_break(tmp_path: Path) -> None:
    """After a cut, the next line is ``broken``, in a segment of its own, then the decision."""
    write(tmp_path)
    store(tmp_path, {n: lines for n, lines in load(tmp_path).items() if n < 4})
    write(tmp_path, 1)
    note, decision = (json.loads(line) for line in load(tmp_path)[4])
    assert (note["outcome"], note["number"]) == ("broken", LINES + 1)
    assert (decision["reason"], decision["number"]) == ("decision 01", LINES + 2)


# -- lines that no head covers


def put_an_older_head_back(root: Path, lines: int) -> None:
    """The ledger is a copy from when the log had so many lines."""
    whole = [line for found in load(root).values() for line in found]
    number = (lines - 1) // 3 + 1
    size = sum(len(line) for line in whole[(number - 1) * 3 : lines])
    with opened(root) as (_, ledger):
        digest = hashlib.sha256(whole[lines - 1]).hexdigest()
        ledger.move_audit_head(AuditHead(lines, digest, number, size))


def rejoin(root: Path, effects: int | None = None) -> str | None:
    """As the doctor does it, by a process that ends before its n-th effect."""
    with opened(root, Fuse(effects)) as (log, _):
        return log.rejoin(entry(outcome="rejoined"))


@pytest.mark.parametrize("case", TAMPERINGS)
def test_a_log_that_was_changed_is_not_rejoined(tmp_path: Path, case: str) -> None:
    """Only added lines are taken, by a line that says so; edits and cuts stay broken for good."""
    tamper, _ = TAMPERINGS[case]
    write(tmp_path)
    segments = load(tmp_path)
    tamper(segments)
    store(tmp_path, segments)
    added = case == "append two lines that fit"
    for _ in range(2):
        before = [path.read_bytes() for path in sorted((tmp_path / "audit").glob("*.jsonl"))]
        told = rejoin(tmp_path)
        after = [path.read_bytes() for path in sorted((tmp_path / "audit").glob("*.jsonl"))]
        assert (told is not None) == added
        assert (after == before) == (not added)
        assert verified(tmp_path).is_sound == added
        if told is not None:
            assert fields_of(tmp_path)[-1]["reason"] == told
            return
        write(tmp_path, 1)


@pytest.mark.parametrize("meanwhile", [0, 2])
def test_an_older_head_is_moved_to_the_end_and_a_line_says_so(
    tmp_path: Path, meanwhile: int
) -> None:
    """What was the head when it was found, what is it now, and which lines nobody had covered."""
    write(tmp_path)
    lines = [line for lines in load(tmp_path).values() for line in lines]
    put_an_older_head_back(tmp_path, 5)
    write(tmp_path, meanwhile)
    assert not verified(tmp_path).is_sound
    told = rejoin(tmp_path)
    assert told is not None
    head = f"line 5 ({hashlib.sha256(lines[4]).hexdigest()})"
    assert told.startswith(f"lines 6 to 11 are taken as they are; the ledger's head was {head}, ")
    *_, before, last = [line for lines in load(tmp_path).values() for line in lines]
    assert json.loads(last)["outcome"] == "rejoined"
    assert hashlib.sha256(before).hexdigest() in told
    with opened(tmp_path) as (log, ledger):
        assert ledger.audit_head().lines == LINES + (meanwhile and meanwhile + 1) + 1
        assert log.verify() == Report(ledger.audit_head().lines, len(load(tmp_path)), (), ())
    assert rejoin(tmp_path) is None
    write(tmp_path, 2)
    assert verified(tmp_path).is_sound


def test_a_second_older_head_is_answered_for_with_the_first(tmp_path: Path) -> None:
    """Both ranges are named; a cut-off write at the end is accounted for."""
    write(tmp_path)
    for lines in (3, 8):
        put_an_older_head_back(tmp_path, lines)
        write(tmp_path, 1)
    segments = load(tmp_path)
    segments[max(segments)].append(b'{"number":')
    store(tmp_path, segments)
    told = rejoin(tmp_path)
    assert told is not None
    assert told.startswith("lines 4 to 11, 9 to 13 are taken as they are")
    assert re.search(r"the ledger's head was line 3 \(\w+\), then line 8 \(\w+\), the line", told)
    assert verified(tmp_path).is_sound


def test_a_crash_while_rejoining_leaves_no_log_that_looks_right(tmp_path: Path) -> None:
    """At each effect: it is broken still, or the line is there; and the next try ends well."""
    effects, crashed = 0, True
    while crashed:
        root = tmp_path / str(effects)
        root.mkdir()
        write(root)
        put_an_older_head_back(root, 5)
        write(root, 1)
        try:
            rejoin(root, effects)
            crashed = False
        except Crash:
            outcomes = [fields["outcome"] for fields in fields_of(root)]
            assert not verified(root).is_sound or "rejoined" in outcomes
            assert rejoin(root) is not None or verified(root).is_sound
        assert verified(root).is_sound
        assert "rejoined" in [fields["outcome"] for fields in fields_of(root)]
        effects += 1
    assert effects > 4


# -- sound logs


def test_an_empty_log_is_sound(tmp_path: Path) -> None:
    """Nothing written, nothing wrong; a look creates no folder."""
    assert verified(tmp_path) == Report(0, 0, (), ())
    with opened(tmp_path) as (log, _):
        assert log.latest(limit=9) == []
    assert not (tmp_path / "audit").exists()


def test_lines_are_numbered_and_chained_over_segments(tmp_path: Path) -> None:
    """Each line carries the number and the SHA-256 that ``sha256sum`` prints of the one before."""
    write(tmp_path)
    previous, expected = "0" * 64, 0
    for lines in load(tmp_path).values():
        assert sum(map(len, lines)) <= SEGMENT_BYTES
        for line in lines:
            fields, expected = json.loads(line), expected + 1
            assert (fields["number"], fields["previous"]) == (expected, previous)
            previous = hashlib.sha256(line).hexdigest()
    assert expected == LINES
    assert verified(tmp_path) == Report(LINES, 4, (), ())


def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Folder 0700, segments 0600."""
    write(tmp_path, 1)
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "audit" / "000001.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_line_holds_what_the_entry_says(tmp_path: Path) -> None:
    """All fields, the time as ISO 8601; nothing known is null."""
    findings = ({"rule": "signature", "ok": True, "detail": "good"},)
    with opened(tmp_path) as (log, _):
        log.append(entry("why", capabilities=("log",), findings=findings, key_id="24f8"))
        (line,) = log.latest(limit=1)
    assert line["at"] == "2027-01-15T08:00:00.000+00:00"
    assert (line["user"], line["uid"], line["by"]) == ("root", 0, "update")
    assert (line["capabilities"], line["key_id"]) == (["log"], "24f8")
    assert line["findings"] == list(findings)
    assert line["digest"] is None


def test_long_and_strange_texts_stay_one_bounded_line(tmp_path: Path) -> None:
    """Line feeds and characters outside ASCII are escaped, long texts cut: still readable."""
    findings = tuple({"rule": "r", "ok": False, "detail": "\U0001f512" * 900} for _ in range(32))
    with opened(tmp_path) as (log, _):
        log.append(entry("two\nlines \ud800" + "\U0001f512" * 9000, findings=findings))
        log.append(entry())
        assert log.verify().is_sound
    (line,) = load(tmp_path)[1]
    assert len(line) < MAX_LINE_BYTES
    assert line.isascii()
    assert json.loads(line)["reason"].startswith("two\nlines ")


def test_latest_gives_the_last_lines_oldest_first(tmp_path: Path) -> None:
    """Over segments, up to the limit; of one plugin where it is named; no foreign line."""
    write(tmp_path)
    with opened(tmp_path) as (log, _):
        log.append(entry("other", plugin="org.example.other"))
        assert [line["number"] for line in log.latest(limit=5)] == [8, 9, 10, 11, 12]
        assert [line["number"] for line in log.latest(PLUGIN_ID, limit=3)] == [9, 10, 11]
        assert [line["reason"] for line in log.latest("org.example.other", limit=3)] == ["other"]
        assert len(log.latest(limit=1000)) == LINES + 1
        segments = load(tmp_path)
        segments[1].insert(0, b"hello\n")
        store(tmp_path, segments)
        assert len(log.latest(limit=1000)) == LINES + 1


def test_other_files_in_the_folder_are_nobodys_business(tmp_path: Path) -> None:
    """A copy or a note beside the segments changes nothing."""
    write(tmp_path)
    (tmp_path / "audit" / "000001.jsonl.bak").write_text("x")
    (tmp_path / "audit" / "README").write_text("x")
    write(tmp_path, 1)
    assert verified(tmp_path) == Report(LINES + 1, 4, (), ())


# -- what crashes and lost ledgers leave


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_torn_line_stays_and_is_accounted_for(tmp_path: Path, before: int) -> None:
    """The part of a line is left byte for byte; the next line names it; both checks are sound."""
    write(tmp_path, before)
    (tmp_path / "audit").mkdir(exist_ok=True)
    path = tmp_path / "audit" / "000001.jsonl"
    part = b'{"number":' + b"1" * 30
    with path.open("ab") as file:
        file.write(part)
    report = verified(tmp_path)
    assert report.is_sound
    assert "40 bytes" in report.remarks[0]
    left = path.read_bytes()

    write(tmp_path, 1)
    assert path.read_bytes() == left
    note = json.loads(load(tmp_path)[2][0])
    assert note["outcome"] == "torn"
    assert hashlib.sha256(part).hexdigest() in note["findings"][0]["detail"]
    assert verified(tmp_path) == Report(before + 2, 2, (), ())
    path.write_bytes(left[:-1])
    assert not verified(tmp_path).is_sound


def test_a_whole_line_beyond_the_head_is_taken(tmp_path: Path) -> None:
    """Its writer ended before the head moved: remarked on, then ``recovered``."""
    write(tmp_path)
    with opened(tmp_path) as (log, ledger):
        head = ledger.audit_head()
        log.append(entry("last words"))
        ledger.move_audit_head(head)
    report = verified(tmp_path)
    assert report.is_sound
    assert report.remarks
    write(tmp_path, 1)
    outcomes = [fields["outcome"] for fields in fields_of(tmp_path)[-3:]]
    assert outcomes == ["committed", "recovered", "committed"]
    assert verified(tmp_path) == Report(LINES + 3, 5, (), ())


def test_a_lost_ledger_adopts_a_whole_chain_only(tmp_path: Path) -> None:
    """Without a head the log is its own witness: ``adopted`` where it fits, else ``broken``."""
    write(tmp_path)
    (tmp_path / "state.db").unlink()
    assert not verified(tmp_path).is_sound
    write(tmp_path, 1)
    assert fields_of(tmp_path)[LINES]["outcome"] == "adopted"
    assert verified(tmp_path).is_sound

    (tmp_path / "state.db").unlink()
    segments = load(tmp_path)
    remove(1, 2)(segments)
    store(tmp_path, segments)
    write(tmp_path, 1)
    assert fields_of(tmp_path)[-2]["outcome"] == "broken"
    assert not verified(tmp_path).is_sound


def crashes(root: Path, effects: int) -> bool:
    """Append with a process that ends before its n-th effect; whether it did."""
    try:
        with opened(root, Fuse(effects)) as (log, _):
            log.append(entry("in danger"))
    except Crash:
        return True
    return False


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("again", [None, *range(7)])
def test_a_crash_at_each_effect_leaves_a_sound_log(
    tmp_path: Path, before: int, again: int | None
) -> None:
    """Also a crash while the first is recovered from; nothing that was written is lost."""
    effects = 0
    crashed = True
    while crashed:
        root = tmp_path / str(effects)
        root.mkdir()
        write(root, before)
        crashed = crashes(root, effects)
        assert verified(root).is_sound
        if again is not None:
            crashes(root, again)
            assert verified(root).is_sound
        write(root, 1)
        report = verified(root)
        assert report.is_sound
        assert not report.remarks
        reasons = [fields["reason"] for fields in fields_of(root)]
        assert reasons[:before] == [f"decision {n:02}" for n in range(1, before + 1)]
        assert reasons[-1] == "decision 01"
        effects += 1
    assert effects > 4
    assert "in danger" in reasons


def test_a_full_disk_takes_the_line_back(tmp_path: Path) -> None:
    """What can't be made durable is an error, and leaves the log as it was."""
    write(tmp_path)
    before = load(tmp_path)
    with opened(tmp_path) as (_, ledger):
        log = AuditLog(tmp_path / "audit", ledger, FullFiles(Fuse()), segment_bytes=SEGMENT_BYTES)
        with pytest.raises(OSError, match="No space left"):
            log.append(entry())
    assert load(tmp_path) == before
    assert verified(tmp_path) == Report(LINES, 4, (), ())


# -- many writers

_WRITER = f"""
import sys
from pathlib import Path
from agent.audit.log import AuditLog, Entry
from agent.files import Files
from agent.ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]) / "state.db")
log = AuditLog(Path(sys.argv[1]) / "audit", ledger, Files(), segment_bytes={SEGMENT_BYTES})
sys.stdin.read()
for number in range({APPENDS}):
    log.append(Entry({NOW}, 0, "root", "update", "committed", f"{{sys.argv[2]}} {{number}}"))
ledger.close()
"""


def test_two_processes_lose_no_line(tmp_path: Path) -> None:
    """Both append at once, over many segments: every line is there once, in each one's order."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    with (
        subprocess.Popen([*command, "a"], stdin=subprocess.PIPE) as one,
        subprocess.Popen([*command, "b"], stdin=subprocess.PIPE) as other,
    ):
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.close()
        for process in (one, other):
            assert process.wait(PROCESS_WAIT_S) == 0
    reasons = [fields["reason"] for fields in fields_of(tmp_path)]
    for name in ("a", "b"):
        own = [reason for reason in reasons if reason.startswith(name)]
        assert own == [f"{name} {number}" for number in range(APPENDS)]
    report = verified(tmp_path)
    assert (report.lines, report.problems, report.remarks) == (2 * APPENDS, (), ())


def test_threads_lose_no_line(tmp_path: Path) -> None:
    """One log used by four threads, one of them inside the ledger's turn: no line is lost."""
    with opened(tmp_path) as (log, ledger):

        def work(name: int) -> None:
            for number in range(APPENDS):
                with ledger.turn():
                    log.append(entry(f"{name} {number}"))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PROCESS_WAIT_S)
        assert log.verify().is_sound
    assert len({fields["reason"] for fields in fields_of(tmp_path)}) == 4 * APPENDS


def test_a_reader_sees_whole_lines_while_another_process_holds_the_log(tmp_path: Path) -> None:
    """``latest`` takes no lock: it answers while a writer is at work."""
    write(tmp_path)
    with (
        Files().lock(tmp_path / "audit" / ".lock", timeout_s=0),
        opened(tmp_path) as (log, _),
    ):
        assert len(log.latest(limit=99)) == LINES


@pytest.mark.parametrize(
    ("tamper", "words"),
    [(remove(4, 2), "cut off"), (append_chained, "a crash leaves one line more at most")],
)
def test_the_problem_says_in_which_direction_log_and_ledger_differ(
    tmp_path: Path, tamper: Callable[[Segments], None], words: str
) -> None:
    """A log that was cut is told from one that goes on where the ledger knows of nothing."""
    write(tmp_path)
    segments = load(tmp_path)
    tamper(segments)
    store(tmp_path, segments)
    assert words in verified(tmp_path).problems[0].what
