"""What a person or a program reads: data on stdout, messages on stderr (contract §7).

Text that came from a plugin or a registry has its control characters escaped wherever it is
shown; JSON escapes everything beyond ASCII.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.log import escape_text

SCHEMA_VERSION = 1


class Output:
    """Where a verb's results and messages go.

    Attributes:
        as_json: ``--format json``.
        quiet: ``-q``: no messages but errors.
        verbose: ``-v``.
    """

    def __init__(self) -> None:
        self.as_json = False
        self.quiet = False
        self.verbose = False
        self.color = not os.environ.get("NO_COLOR")
        self._wrote_document = False

    @property
    def interactive(self) -> bool:
        """Whether a person watches stderr: bars instead of lines."""
        return sys.stderr.isatty() and not self.quiet

    def document(self, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Print a JSON document; it carries ``schemaVersion``."""
        import json

        self._wrote_document = True
        sys.stdout.write(json.dumps({"schemaVersion": SCHEMA_VERSION, **fields}, indent=2) + "\n")

    def line(self, text: str = "") -> None:
        """Print one line of data."""
        sys.stdout.write(escape_text(text) + "\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows in columns as wide as their longest cell."""
        cells = [[escape_text("-" if c is None else str(c)) for c in row] for row in rows]
        if not cells:
            return
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        for row in (list(headings), *cells):
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write("  ".join(padded).rstrip() + "\n")

    def fields(self, row: Mapping[str, object]) -> None:
        """Print the fields of a JSON row for people, a line each."""
        width = max(map(len, row))
        for name, text in fields_of(row):
            self.line(f"{name.ljust(width)}  {text}")

    def message(self, text: str) -> None:
        """Tell a person what goes on."""
        if not self.quiet:
            sys.stderr.write(escape_text(text) + "\n")

    def detail(self, text: str) -> None:
        """Tell a person who asked for more (``-v``)."""
        if self.verbose:
            self.message(text)

    def error(self, code: str, message: str, hint: str | None) -> None:
        """Tell why a verb failed; as JSON too where nothing was printed yet."""
        if self.as_json and not self._wrote_document:
            self.document(error={"code": code, "message": message, "hint": hint})
        red, plain = ("\x1b[31m", "\x1b[0m") if self.color and sys.stderr.isatty() else ("", "")
        sys.stderr.write(f"{red}agent: {escape_text(message)}{plain}\n")
        if hint:
            sys.stderr.write(f"  try: {escape_text(hint)}\n")


def sizes(size_bytes: int) -> str:
    """A size for people: ``412 B``, ``1.5 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - the step between units
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def fields_of(row: Mapping[str, object]) -> list[tuple[str, str]]:
    """The fields of a JSON row as text, lists joined; for ``info`` and ``inspect``."""
    shown = []
    for name, value in row.items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        shown.append((name, "-" if text in (None, "") else str(text)))
    return shown
