"""Checking the audit log: every line against the one before it, the last against the head.

Pure: the lines are handed in. What a crash of the writer can leave is remarked on; all else
that does not fit is a problem, with the segment and the line where it shows.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.model import AuditHead

MAX_LINE_BYTES = 256 * 1024
TORN = "torn"
_MAX_PROBLEMS = 100

ReadLines = Callable[[int, int], Iterable[bytes]]
"""Segment number and size in bytes to its lines, line feeds included; bounded each."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that no crash leaves: the log was changed, or the ledger was.

    Attributes:
        segment: The file's name.
        line: Counted from 1 within the segment; 0 = the segment as a whole.
        is_beyond: The chain is whole, and goes on beyond a head of the ledger's: an older ledger
            was put back, or lines were added. A person may answer for them.
    """

    segment: str
    line: int
    what: str
    is_beyond: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        lines: How many lines were read.
        segments: How many segments.
        problems: Empty = the log is sound. 100 at most are told.
        remarks: What a crash left.
    """

    lines: int
    segments: int
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether every line is as it was written, and none is missing."""
        return not self.problems

    @property
    def may_be_rejoined(self) -> bool:
        """Whether nothing is wrong but lines that no head covers; see ``AuditLog.rejoin``."""
        return not self.is_sound and all(problem.is_beyond for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Link:
    """What a line says of its place in the chain.

    Attributes:
        torn: The cut-off writes that the line accounts for.
    """

    number: int
    previous: str
    torn: frozenset[str]
    fields: dict[str, Any]


@dataclass(slots=True)
class Walk:
    """The chain, followed from the first line to the last; see ``walk``.

    Attributes:
        head: The end as the ledger knows it.
        passes_head: Whether that is a line of the chain; so is the beginning.
        end: The last line that was read.
        before_end: The hash of the line before that.
        torn: Cut-off writes that no line has accounted for yet.
    """

    head: AuditHead = field(default_factory=AuditHead)
    passes_head: bool = False
    end: AuditHead = field(default_factory=AuditHead)
    before_end: str = ""
    lines: int = 0
    problems: list[Problem] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._look_for_head()

    def segment(self, number: int, lines: Iterable[bytes]) -> None:
        """Follow the chain through a segment."""
        name, offset = segment_name(number), 0
        for index, line in enumerate(lines, start=1):
            offset += len(line)
            if not line.endswith(b"\n"):
                if len(line) > MAX_LINE_BYTES:
                    self.problem(name, index, "is longer than a line can be; the rest was not read")
                    return
                self.torn.append(torn_bytes(number, line))
                continue
            self.lines += 1
            link = parse_line(line)
            if link is None:
                self.problem(name, index, "is not a line that the agent wrote")
                continue
            self._follow(name, index, link)
            self.before_end = self.end.hash
            self.end = AuditHead(link.number, hashlib.sha256(line).hexdigest(), number, offset)
            self._look_for_head()

    def _look_for_head(self) -> None:
        here, head = self.end, self.head
        self.passes_head |= (here.lines, here.hash) == (head.lines, head.hash)

    def _follow(self, name: str, index: int, link: Link) -> None:
        expected = self.end.lines + 1
        if link.number > expected:
            missing = f"{expected} to {link.number - 1} of the log are"
            self.problem(name, index, f"lines {missing} missing before it")
        elif link.number < expected:
            self.problem(
                name, index, f"is out of order: it is number {link.number}, expected {expected}"
            )
        elif link.previous != self.end.hash:
            self.problem(name, index, "does not fit the line before it: one of the two was edited")
        if self.torn and not link.torn.issuperset(self.torn):
            self.problem(name, index, f"does not account for what is before it: {self.torn[0]}")
        self.torn.clear()

    def problem(self, name: str, index: int, what: str, *, is_beyond: bool = False) -> None:
        """Note a problem, up to a bound."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(Problem(name, index, what, is_beyond))


def walk(segments: Mapping[int, int], read: ReadLines, head: AuditHead) -> Walk:
    """Follow the chain through all segments, to its end, whether the head is that or not.

    Args:
        segments: Segment number to size in bytes.
        read: Reads a segment's lines.
        head: The end as the ledger knows it.
    """
    walked = Walk(head)
    for number in range(1, max(segments, default=0) + 1):
        if number in segments:
            walked.segment(number, read(number, segments[number]))
        else:
            walked.problem(segment_name(number), 0, "is missing")
    return walked


def check(
    segments: Mapping[int, int],
    read: ReadLines,
    head: AuditHead,
    uncovered: Iterable[tuple[int, int]] = (),
) -> Report:
    """Check the log.

    Args:
        segments: Segment number to size in bytes.
        read: Reads a segment's lines.
        head: The end as the ledger knows it.
        uncovered: First and last of lines that were beyond an earlier head.
    """
    walked = walk(segments, read, head)
    end, remarks = walked.end, []
    where = segment_name(max(end.segment, 1))
    beyond = end.lines - head.lines
    if beyond < 0:
        walked.problem(
            where, 0, f"ends at line {end.lines} of the log, the ledger knows {head.lines}: cut off"
        )
    elif beyond > 1:
        walked.problem(
            where,
            0,
            f"the log goes on to line {end.lines}, the ledger knows {head.lines}; "
            "a crash leaves one line more at most",
            is_beyond=walked.passes_head,
        )
    elif head.hash != (walked.before_end if beyond else end.hash):
        walked.problem(
            where, 0, f"line {head.lines} of the log is not the one that the ledger knows"
        )
    elif beyond:
        remarks.append(f"line {end.lines} is beyond the head: a run ended before it could go on")
    for first, last in uncovered:
        what = f"lines {first} to {last} of the log are beyond the head that the ledger had"
        walked.problem(where, 0, what, is_beyond=True)
    remarks += [f"a write was cut short: {torn}" for torn in walked.torn]
    return Report(walked.lines, len(segments), tuple(walked.problems), tuple(remarks))


def parse_line(line: bytes) -> Link | None:
    """Read a line; None where it is none of this log's."""
    try:
        fields = json.loads(line)
        number, previous = fields["number"], fields["previous"]
        findings = fields["findings"]
        torn = frozenset(str(f["detail"]) for f in findings if f["rule"] == TORN)
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    if not isinstance(number, int) or number < 1 or not isinstance(previous, str):
        return None
    return Link(number, previous, torn, fields)


def segment_name(number: int) -> str:
    """``000001.jsonl``."""
    return f"{number:06}.jsonl"


def torn_bytes(number: int, data: bytes) -> str:
    """The name that a line gives to a cut-off write at the end of a segment."""
    return f"{segment_name(number)}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"
