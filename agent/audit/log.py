"""The audit log: a line of JSON for every decision, chained by hashes (contract §9).

::

    state/audit/000001.jsonl    16 MiB, then the next; never rewritten, never removed

A line carries the SHA-256 of the line before it, a segment's first line that of the last
segment's last. The ledger keeps the head: how many lines there are, and the last one's hash. A
line is durable before the head moves to it, and both before ``append`` returns. So a crash
leaves at most one line beyond the head, or the first part of one. The next writer finds that,
leaves it where it is, and says so in a line of its own.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from agent.audit.check import (
    MAX_LINE_BYTES,
    TORN,
    Report,
    check,
    parse_line,
    torn_bytes,
    walk,
)
from agent.audit.segments import Segments
from agent.files import Files
from agent.model import AuditHead

SEGMENT_BYTES = 16 * 1024 * 1024
_LOCK_TIMEOUT_S = 5.0
_MAX_TEXT = 2000
_MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision; what is not known, or does not apply, is None.

    Attributes:
        at: Seconds since the epoch.
        uid: The effective user who acted.
        by: The verb that acted, such as ``update``; ``host`` for a program that runs plugins.
        outcome: What was decided, one word.
        reason: Why, for people.
        digest: The OCI manifest's.
        wasm_sha256: 64 hex, like ``sig_sha256`` and ``toml_sha256``.
        capabilities: What the release is granted of what it requests.
        findings: ``rule``, ``ok`` and ``detail`` of each check of trust; a few dozen at most.
    """

    at: float
    uid: int
    user: str | None
    by: str
    outcome: str
    reason: str
    plugin: str | None = None
    version: str | None = None
    release: str | None = None
    digest: str | None = None
    wasm_sha256: str | None = None
    sig_sha256: str | None = None
    toml_sha256: str | None = None
    key_id: str | None = None
    capabilities: tuple[str, ...] | None = None
    findings: tuple[Mapping[str, object], ...] = ()


class Heads(Protocol):
    """What the log needs of the ledger."""

    def audit_head(self) -> AuditHead:
        """Where the log ends."""

    def move_audit_head(self, head: AuditHead) -> None:
        """It ends here now; durable."""

    def audit_uncovered(self) -> Sequence[tuple[int, int]]:
        """First and last of the lines that were beyond an earlier head."""

    def note_audit_uncovered(self, first: int, last: int) -> None:
        """Lines were found beyond the head; durable."""

    def cover_audit(self) -> None:
        """A person answered for them."""

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Keep this process's other threads away from the ledger for the length of a block."""


class AuditLog(Segments):
    """The log of one installation; may be used by many processes and threads.

    Every method may raise ``OSError`` and ``sqlite3.Error`` where the disk or the ledger fails,
    and ``TimeoutError`` where another process holds the log for more than 5 s.

    Args:
        folder: Where the segments lie; created on the first write.
        ledger: Keeps the head.
        files: Performs every change on disk.
        segment_bytes: When the next segment begins.
    """

    def __init__(
        self, folder: Path, ledger: Heads, files: Files, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        super().__init__(folder)
        self._ledger = ledger
        self._files = files
        self._segment_bytes = segment_bytes

    def append(self, entry: Entry) -> None:
        """Write a line, durably; first a line on what a crash or a stranger left, if any.

        Never called inside a transaction of the ledger: the log's lock comes first.
        """
        self._files.make_folder(self._folder, mode=0o700)
        with self._lock():
            head, segment = self._resume(self._ledger.audit_head(), entry)
            self._write(head, entry, segment)

    def verify(self) -> Report:
        """Check every line of the log against the next, and the last against the head."""
        if not self._folder.is_dir():
            return check({}, self._read_lines, self._ledger.audit_head())
        with self._lock():
            head, segments = self._ledger.audit_head(), self._segments()
            uncovered = self._ledger.audit_uncovered()
        return check(segments, self._read_lines, head, uncovered)

    def rejoin(self, entry: Entry) -> str | None:
        """Take the lines that no head covers as they are, because a person answers for them.

        Returns:
            The reason that stands in the line; None where there are none, or the chain is broken.
        """
        with self._lock():
            head, segments = self._ledger.audit_head(), self._segments()
            uncovered = list(self._ledger.audit_uncovered())
            if not check(segments, self._read_lines, head, uncovered).may_be_rejoined:
                return None
            walked = walk(segments, self._read_lines, head)
            if walked.end.lines > head.lines:
                uncovered.append((head.lines + 1, walked.end.lines))
            taken = ", ".join(f"{first} to {last}" for first, last in uncovered)
            heads = self._heads_before(segments, {first for first, _ in uncovered})
            why = (
                f"lines {taken} are taken as they are; the ledger's head was {heads}, the line "
                f"before this one is {walked.end.lines} ({walked.end.hash})"
            )
            note = _note(entry, entry.outcome, why, *walked.torn)
            self._write(walked.end, note, _following(segments))
            # Last: a run that ends before is begun again.
            self._ledger.cover_audit()
        return why

    # -- writing

    def _write(self, head: AuditHead, entry: Entry, segment: int | None = None) -> AuditHead:
        """Write one line, then move the head to it.

        Args:
            head: Where the log ends.
            entry: What the line says.
            segment: A new segment that is begun with it; None = the head's, unless it is full.
        """
        line = _encode(entry, number=head.lines + 1, previous=head.hash)
        number, offset = (head.segment, head.size_bytes) if segment is None else (segment, 0)
        if not number or (offset and offset + len(line) > self._segment_bytes):
            number, offset = number + 1, 0
        self._files.append_line(self._path(number), line)
        moved = AuditHead(
            head.lines + 1, hashlib.sha256(line).hexdigest(), number, offset + len(line)
        )
        self._ledger.move_audit_head(moved)
        return moved

    def _resume(self, head: AuditHead, entry: Entry) -> tuple[AuditHead, int | None]:
        """Where to go on writing: the head, and the segment to begin if it isn't the head's."""
        segments = self._segments()
        last = max(segments, default=0)
        if last == head.segment and segments.get(last, 0) == head.size_bytes:
            return head, None
        tails = self._tails(head, segments)
        following = _following(segments)
        if tails is None:
            return self._go_on_after_a_break(head, entry, following), None
        torn = [torn_bytes(number, data) for number, data in tails if not data.endswith(b"\n")]
        if tails and tails[-1][1].endswith(b"\n"):
            number, data = tails[-1]
            offset = head.size_bytes if number == head.segment else 0
            head = AuditHead(
                head.lines + 1, hashlib.sha256(data).hexdigest(), number, offset + len(data)
            )
            self._ledger.move_audit_head(head)
            why = f"line {head.lines} was written by a run that ended before it could go on"
            return self._write(head, _note(entry, "recovered", why)), None
        if torn:
            why = "a write was cut short; what there is of it was left where it is"
            return self._write(head, _note(entry, "torn", why, *torn), following), None
        return head, following

    def _tails(
        self, head: AuditHead, segments: Mapping[int, int]
    ) -> list[tuple[int, bytes]] | None:
        """What lies beyond the head, if it is what crashes can leave; None: it is not.

        That is the first part of a line in any number of segments (a crash each), and at most
        one whole line, the next one, as the last of all.
        """
        if head.segment and segments.get(head.segment, -1) < head.size_bytes:
            return None
        tails: list[tuple[int, bytes]] = []
        for number in sorted(segments):
            if number < head.segment:
                continue
            offset = head.size_bytes if number == head.segment else 0
            if segments[number] - offset > MAX_LINE_BYTES:
                return None
            if tails and tails[-1][1].endswith(b"\n"):
                return None
            data = self._read(number, offset, segments[number] - offset)
            if data and not _may_be_next(data, head):
                return None
            tails += [(number, data)] if data else []
        return tails

    def _go_on_after_a_break(self, head: AuditHead, entry: Entry, following: int) -> AuditHead:
        """Write on, in a segment of its own, after what no crash of ours leaves.

        The chain goes on from the head, so that every later check finds the break. Only where
        the chain is whole, and the head a line of it, it goes on from its end: the ledger is an
        older copy, or was lost and knows no head. What an older head did not cover is noted,
        so that every check finds that until a person answers for it.
        """
        walked = walk(self._segments(), self._read_lines, head)
        if walked.problems or not walked.passes_head:
            why = "the log is not as the ledger knows it: agent audit verify"
            note = _note(entry, "broken", why, *walked.torn)
            return self._write(head if head.lines else walked.end, note, following)
        if head.lines:
            first, last = head.lines + 1, walked.end.lines
            self._ledger.note_audit_uncovered(first, last)
            why = f"lines {first} to {last} are beyond the head that the ledger had: agent doctor"
            return self._write(walked.end, _note(entry, "broken", why, *walked.torn), following)
        why = f"the ledger knew of no log: its {walked.end.lines} lines were taken as they are"
        return self._write(walked.end, _note(entry, "adopted", why, *walked.torn), following)

    # -- the folder

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        # The ledger's turn first: a thread may have it already, and wait for this lock.
        path = self._folder / ".lock"
        with self._ledger.turn(), self._files.lock(path, timeout_s=_LOCK_TIMEOUT_S):
            yield


def _following(segments: Mapping[int, int]) -> int:
    """The segment to begin where the last one must not be written any more."""
    last = max(segments, default=0)
    return last if not segments.get(last, 0) else last + 1


def _encode(entry: Entry, *, number: int, previous: str) -> bytes:
    """The line of an entry: ASCII, bounded whatever the texts are."""
    at = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")
    fields = {"number": number, **asdict(entry), "at": at, "previous": previous}
    for name in ("outcome", "reason", "plugin", "version", "user", "by"):
        fields[name] = _cut(fields[name], _MAX_TEXT)
    fields["findings"] = [
        {name: _cut(value, _MAX_DETAIL) for name, value in finding.items()}
        for finding in entry.findings
    ]
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _cut(value: object, length: int) -> object:
    return f"{value[:length]}…" if isinstance(value, str) and len(value) > length else value


def _may_be_next(data: bytes, head: AuditHead) -> bool:
    """Whether bytes after the head are the first part of a line, or all of the next one."""
    if b"\n" not in data:
        return True
    link = parse_line(data) if data.find(b"\n") == len(data) - 1 else None
    return link is not None and (link.number, link.previous) == (head.lines + 1, head.hash)


def _note(entry: Entry, outcome: str, reason: str, *torn: str) -> Entry:
    """A line on the log itself, by whoever writes the next entry."""
    findings = tuple({"rule": TORN, "ok": False, "detail": detail} for detail in torn)
    return Entry(entry.at, entry.uid, entry.user, entry.by, outcome, reason, findings=findings)
