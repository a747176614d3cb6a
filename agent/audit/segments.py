"""The audit log's segments, as they lie there; nothing is written here."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.audit.check import MAX_LINE_BYTES, parse_line, segment_name
from agent.reading import open_regular

_SEGMENT = re.compile(r"([0-9]{6})\.jsonl")


class Segments:
    """The files of one log; every method may raise ``OSError``.

    Args:
        folder: Where they lie, whether it is there or not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self, plugin_id: str | None = None, *, limit: int) -> list[dict[str, Any]]:
        """The latest lines, oldest first; what is no line of this log is left out.

        Args:
            plugin_id: Only lines that speak of this plugin; None = all.
            limit: How many at most.
        """
        found: list[dict[str, Any]] = []
        for number, size_bytes in sorted(self._segments().items(), reverse=True):
            lines = []
            for line in self._read_lines(number, size_bytes):
                link = parse_line(line)
                if link is not None and plugin_id in (None, link.fields.get("plugin")):
                    lines.append(link.fields)
            found = lines[-(limit - len(found)) :] + found
            if len(found) >= limit:
                break
        return found

    def _path(self, number: int) -> Path:
        return self._folder / segment_name(number)

    def _segments(self) -> dict[int, int]:
        """Segment -> its size in bytes; empty where the log was never written."""
        if not self._folder.is_dir():
            return {}
        names = ((path, _SEGMENT.fullmatch(path.name)) for path in self._folder.iterdir())
        return {int(match[1]): path.stat().st_size for path, match in names if match}

    def _read(self, number: int, offset: int, size_bytes: int) -> bytes:
        with open_regular(self._path(number)) as file:
            file.seek(offset)
            return file.read(size_bytes)

    def _heads_before(self, segments: Mapping[int, int], firsts: Collection[int]) -> str:
        """The lines right before some, in words: each with the hash that the next one gives."""
        links = (
            link
            for number in sorted(segments)
            for line in self._read_lines(number, segments[number])
            if (link := parse_line(line)) is not None and link.number in firsts
        )
        return ", then ".join(f"line {link.number - 1} ({link.previous})" for link in links)

    def _read_lines(self, number: int, size_bytes: int) -> Iterator[bytes]:
        """The lines of a segment, up to a size that was looked at under the lock."""
        with open_regular(self._path(number)) as file:
            left = size_bytes
            while line := file.readline(min(left, MAX_LINE_BYTES + 1)):
                left -= len(line)
                yield line
