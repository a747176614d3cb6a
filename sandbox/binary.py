"""What must be known of a module before the binding is asked: its bytes, read by ourselves. Pure.

The binding ends the process when it is asked for the type of a function with a vector (v128).
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_HEADER_BYTES = 8
_CUSTOM, _TYPES, _IMPORTS, _FUNCTIONS = range(4)
_MEMORIES, _EXPORTS, _START, _CODE, _DATA = 5, 7, 8, 10, 11
_TINY_BYTES, _TINY_VARIABLES = 4096, 1000
_FUNCTION, _TABLE, _MEMORY, _GLOBAL = range(4)
_FUNCTION_TYPE = 0x60
_V128 = 0x7B
_MOST_BITS = 64
_PAGE_BYTES = 65_536


def has_vectors_at_its_border(payload: bytes) -> bool:
    """Whether a function that a module imports or exports takes or returns a vector.

    Args:
        payload: A core module that wasmtime has found valid.

    Raises:
        ValueError: It is not, or uses what the engine's configuration excludes.
    """
    types: list[bool] = []
    functions: list[int] = []
    crossing: list[int] = []
    try:
        for section, reader in _sections(payload):
            if section == _TYPES:
                types = reader.many(reader.function_type)
                if not any(types):
                    return False
            elif section == _IMPORTS:
                imports = reader.many(reader.imported)
                functions = [kind for *_, kind in imports if kind is not None]
                crossing += functions
            elif section == _FUNCTIONS:
                functions += reader.many(reader.number)
            elif section == _EXPORTS:
                exports = reader.many(reader.exported)
                crossing += [functions[place] for place in exports if place is not None]
        return any(types[kind] for kind in crossing)
    except IndexError as error:
        raise ValueError("the module ends too early") from error


def imports(payload: bytes) -> list[tuple[str, str]]:
    """Module and name of what a core module imports; nothing of it need be valid.

    Raises:
        ValueError: It can't be read as far as its imports.
    """
    try:
        for section, reader in _sections(payload):
            if section == _IMPORTS:
                return [
                    (module.decode("utf-8", "replace"), name.decode("utf-8", "replace"))
                    for module, name, _ in reader.many(reader.imported)
                ]
    except IndexError as error:
        raise ValueError("the module ends too early") from error
    return []


def beginning(payload: bytes) -> tuple[int, bool]:
    """What a module's memory begins with, exported or not, and whether there is a start function.

    Args:
        payload: A core module that wasmtime has found valid.

    Raises:
        ValueError: It is not.
    """
    least_pages, starts = 0, False
    try:
        for section, reader in _sections(payload):
            if section == _MEMORIES:
                least_pages = sum(reader.many(reader.limits))
            starts = starts or section == _START
    except IndexError as error:
        raise ValueError("the module ends too early") from error
    return least_pages * _PAGE_BYTES, starts


def is_tiny(payload: bytes) -> bool:
    """Whether a module is so small that its compilation takes milliseconds, whatever is in it.

    What costs a compiler more than time by the byte is a product of two things in a module:
    variables and functions, variables and loops. Data costs it nothing.
    """
    length = variables = 0
    try:
        for section, reader in _sections(payload):
            if section not in {_CUSTOM, _DATA}:
                length += len(reader)
            if length > _TINY_BYTES:
                return False
            if section == _CODE:
                variables = sum(reader.many(reader.variables))
    except (IndexError, ValueError):
        return True  # no module at all: that is quickly told
    return variables <= _TINY_VARIABLES


class _Reader:
    """Reads one section from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __len__(self) -> int:
        return len(self._data)

    @property
    def rest(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def number(self) -> int:
        """An unsigned number, seven bits a byte."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7
            if shift > _MOST_BITS:
                raise ValueError("a number is too long")

    def take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def many(self, one: Callable[[], T]) -> list[T]:
        return [one() for _ in range(self.number())]

    def function_type(self) -> bool:
        """One type: whether there is a vector in it."""
        form = self.byte()
        if form != _FUNCTION_TYPE:
            raise ValueError(f"got the type form {form:#x}, expected {_FUNCTION_TYPE:#x}")
        params = self.take(self.number())
        return _V128 in params + self.take(self.number())

    def variables(self) -> int:
        """One function: how many variables it declares."""
        body = _Reader(self.take(self.number()))
        return sum(body.many(body.group))

    def group(self) -> int:
        """One group of variables: how many there are."""
        count = self.number()
        self.byte()
        return count

    def imported(self) -> tuple[bytes, bytes, int | None]:
        """One import: module, name and the type of a function, None for all else."""
        module, name = self.take(self.number()), self.take(self.number())
        return module, name, self.imported_type()

    def imported_type(self) -> int | None:
        """What is imported: the type of a function, None for all else."""
        kind = self.byte()
        if kind == _FUNCTION:
            return self.number()
        if kind == _GLOBAL:
            self.take(2)
        elif kind in {_TABLE, _MEMORY}:
            if kind == _TABLE:
                self.byte()
            self.limits()
        else:
            raise ValueError(f"got an import of kind {kind}, expected at most {_GLOBAL}")
        return None

    def limits(self) -> int:
        """The least of a table or a memory."""
        has_most = self.byte() & 1
        least = self.number()
        if has_most:
            self.number()
        return least

    def exported(self) -> int | None:
        """One export: the number of a function, None for all else."""
        self.take(self.number())
        kind, place = self.byte(), self.number()
        return place if kind == _FUNCTION else None


def _sections(payload: bytes) -> Iterator[tuple[int, _Reader]]:
    whole = _Reader(payload)
    whole.take(_HEADER_BYTES)
    while whole.rest:
        section = whole.byte()
        yield section, _Reader(whole.take(whole.number()))
