"""The values about the flat files of the plugin folder; frozen, no behaviour with effects."""

from dataclasses import dataclass

FLAT_PARTS = ("wasm", "sig", "toml")


@dataclass(frozen=True, slots=True)
class FlatSet:
    """The flat files of one stem in the plugin folder, as they lie there.

    Attributes:
        stamp: Size, times and inode of each: it changes whenever one of them does.
        parts: Which of ``wasm``, ``sig`` and ``toml`` are there, as regular files.
    """

    stem: str
    stamp: str
    parts: frozenset[str]

    @property
    def is_whole(self) -> bool:
        """Whether all three are there."""
        return len(self.parts) == len(FLAT_PARTS)


@dataclass(frozen=True, slots=True)
class FlatNote:
    """What the ledger knows of a flat set: our own copies, or a drop-in that was not taken.

    Attributes:
        plugin_id: Whose it is; the stem where that cannot be said.
        stamp: See ``FlatSet``.
        terms: What the answer depends on; None = they are our copies of what serves.
        outcome: ``refused`` or ``pending``; "" for our copies, like the four that follow.
        code: The error's code (``AgentError.code``).
        reason: A policy's word.
        at: Seconds since the epoch.
    """

    stem: str
    plugin_id: str
    stamp: str
    at: float
    terms: str | None = None
    version: str | None = None
    outcome: str = ""
    code: str = ""
    reason: str = ""
    detail: str = ""
    hint: str | None = None
