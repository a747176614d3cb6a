"""A running instance, and the core ABI spoken with it (contract section 8)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox import memory
from sandbox.arguments import Lowered
from sandbox.cell import Cell, Number
from sandbox.context import CallContext, StopCallError
from sandbox.errors import GuestTrap, MemoryExceeded, MissingExport
from sandbox.exports import ALLOC, DEALLOC, INITIALIZE, START
from sandbox.result import Value
from sandbox.signature import TEXTS, Signature

_U64 = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Guest:
    """An instance in its store, which is closed by whoever made the guest."""

    store: Cell

    @classmethod
    def open(cls, store: Cell, context: CallContext) -> "Guest":
        """Instantiate: the start function runs, then a reactor's ``_initialize``.

        Raises:
            Exception: Whatever the binding raises for a trap; ``ending`` reads it.
            StopCallError: A host function ended the call.
        """
        store.start()
        _go_on(context)
        if store.exports(INITIALIZE) and not context.is_command:
            store.call(INITIALIZE)
            _go_on(context)
        return cls(store)

    def invoke(
        self, context: CallContext, signature: Signature, lowered: Sequence[Lowered], *, free: bool
    ) -> Value:
        """Call the function that the context names.

        Args:
            context: The call.
            signature: What the function takes and gives.
            lowered: The arguments, text as bytes.
            free: Give text back to the guest's ``dealloc``: the instance lives on.

        Raises:
            GuestTrap: ``alloc`` or the result points outside of the memory; not UTF-8; too long.
            MemoryExceeded: ``alloc`` had no room.
            MissingExport: The function is not there.
            StopCallError: A host function ended the call.
            Exception: Whatever the binding raises for a trap; ``ending`` reads it.
        """
        params: list[Number] = []
        texts: list[tuple[int, int]] = []
        for item in lowered:
            if isinstance(item, bytes):
                text = self._place(context, item)
                texts.append(text)
                params += text
            else:
                params.append(item)
        raw = self._call(context.func, *params)
        _go_on(context)
        if signature.result not in TEXTS:
            value: Value = raw
        else:
            packed = int(raw or 0) & _U64
            text = (packed >> 32, packed & 0xFFFF_FFFF)
            texts.append(text)
            data = _take(context, text)
            value = data if signature.result == "bytes" else memory.decode(data)
        if free:
            self._free(context, texts)
        return value

    def run_command(self, context: CallContext, signature: Signature) -> Value:
        """Run ``_start``; what it writes to stdout is the result.

        Raises:
            GuestTrap: What it wrote is declared as a string and is not UTF-8.
            MissingExport: It is not there.
            Exception: Whatever the binding raises for a trap; ``ending`` reads it.
        """
        try:
            self._call(START)
        except Exception:
            # after proc_exit(0) the guest traps where it does not return
            if context.exit_code != 0:
                raise
        data = bytes(context.stdout)
        return data if signature.result == "bytes" else memory.decode(data)

    def _call(self, name: str, *numbers: Number) -> Number | None:
        if not self.store.exports(name):
            raise MissingExport(f"cannot call {name}: the module does not export it")
        return self.store.call(name, *numbers)

    def _place(self, context: CallContext, data: bytes) -> tuple[int, int]:
        if not data:
            return 0, 0
        pointer = memory.unsigned(int(self._call(ALLOC, len(data)) or 0))
        _go_on(context)
        if not pointer:
            raise MemoryExceeded(f"cannot call {context.func}: alloc({len(data)}) returned 0")
        memory.write(context, pointer, data)
        return pointer, len(data)

    def _free(self, context: CallContext, texts: list[tuple[int, int]]) -> None:
        if self.store.exports(DEALLOC):
            # a guest may give back the very text it got
            for pointer, length in dict.fromkeys(texts):
                if length:
                    self.store.call(DEALLOC, pointer, length)
                    _go_on(context)


def _take(context: CallContext, text: tuple[int, int]) -> bytes:
    longest = context.limits.output_bytes
    if text[1] > longest:
        raise GuestTrap(
            f"cannot take the result of {context.func}: it is longer than {longest} bytes",
            code="OUTPUT_TOO_LONG",
        )
    return memory.read(context, *text)


def _go_on(context: CallContext) -> None:
    """Stop here if a host function ended the call and the guest returned all the same."""
    if context.ended:
        raise StopCallError
