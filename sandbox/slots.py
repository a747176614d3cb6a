"""How numbers lie in the engine's memory on their way in and out of a function: one slot each."""

import struct
from collections.abc import Callable, Sequence
from ctypes import c_double, c_float, c_uint64

from sandbox import library
from sandbox.cell import Crossing, Number
from sandbox.signature import WasmType

WORDS = 2
"""Of 64 bits in a slot; a number is at its beginning."""
_LETTERS = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
_BITS: dict[str, Callable[[float], int]] = {
    # c_float makes infinite what is too large
    "f32": lambda number: int.from_bytes(bytes(c_float(number)), "little"),
    "f64": lambda number: int.from_bytes(bytes(c_double(number)), "little"),
}


class Form:
    """How one exported function is called.

    Attributes:
        name: Its name and, as ``name_bytes``, the length of that.
        slots: Makes room for arguments and results, ``slot_count`` of them.
        result: Unpacks the result; None = there is none.
        words: How many words the arguments take.
        has_floats: There are floats among them.
    """

    __slots__ = (
        "_floats",
        "has_floats",
        "name",
        "name_bytes",
        "result",
        "slot_count",
        "slots",
        "words",
    )

    def __init__(self, name: str, kind: WasmType) -> None:
        self.name = name.encode()
        self.name_bytes = len(self.name)
        self.slot_count = max(len(kind.params), len(kind.results))
        self.slots = c_uint64 * (WORDS * max(1, self.slot_count))
        # what a guest gives is signed, as in the public API
        self.result = struct.Struct("<" + _LETTERS[kind.results[0]]) if kind.results else None
        self.words = max(0, WORDS * len(kind.params) - 1)
        self._floats = {place: word for place, word in enumerate(kind.params) if word in _BITS}
        self.has_floats = bool(self._floats)

    def without_floats(self, numbers: Sequence[Number]) -> Sequence[Number]:
        """The same with the bits of floats in their places."""
        without = list(numbers)
        for place, word in self._floats.items():
            without[place] = _BITS[word](without[place])
        return without


def landing(kind: WasmType, crossing: Crossing) -> Callable[[int, int], None]:
    """The function that takes the arguments out of the slots and puts the result there."""
    layout = "".join(f"{_LETTERS[word]}{12 if word[1:] == '32' else 8}x" for word in kind.params)
    params = struct.Struct("<" + layout)
    answers = bool(kind.results)

    def land(caller: int, slots: int) -> None:
        result = crossing(caller, *params.unpack(library.string_at(slots, params.size)))
        if answers:
            c_uint64.from_address(slots).value = result or 0  # cut to its bits

    return land
