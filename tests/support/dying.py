"""A disk under the registry room that stops at any effect."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.files import Files


class Crash(BaseException):
    """The process is gone: nothing may catch it."""


class Dying(Files):
    """A disk that stops at the n-th effect, before it happens.

    Args:
        effects_left: How many effects still happen.
    """

    def __init__(self, effects_left: int) -> None:
        self._effects_left = effects_left

    def _effect(self) -> None:
        if self._effects_left == 0:
            raise Crash
        self._effects_left -= 1

    def make_folder(self, path: Path, *, mode: int = 0o755) -> None:
        """An effect."""
        self._effect()
        super().make_folder(path, mode=mode)

    @contextmanager
    def temporary(self, folder: Path, *, mode: int = 0o600) -> Iterator[tuple[BinaryIO, Path]]:
        """An effect."""
        self._effect()
        with super().temporary(folder, mode=mode) as opened:
            yield opened

    def rename(self, source: Path, target: Path) -> None:
        """An effect."""
        self._effect()
        super().rename(source, target)

    @contextmanager
    def lock(self, path: Path, *, timeout_s: float) -> Iterator[None]:
        """An effect."""
        self._effect()
        with super().lock(path, timeout_s=timeout_s):
            yield
