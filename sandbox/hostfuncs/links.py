"""What links a module's import to an application's function, or to what stands in for it.

The links are plain values: a child process gets them, and answers by asking its host.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sandbox.context import CallContext
from sandbox.hostfuncs import border
from sandbox.hostfuncs.hints import Form
from sandbox.signature import WasmType

Answer = Callable[[str, CallContext, Sequence[object]], str]
"""Runs the function of that name and tells the guest, in JSON."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An import of a function that the application registered.

    Attributes:
        name: The function's.
        capability: What a plugin needs to be granted to call it.
        form: How it is called from wasm.
    """

    name: str
    capability: str
    form: Form

    def body(self, kind: WasmType, answer: Answer) -> border.Body:
        """What runs when the guest calls it.

        Args:
            kind: The type the import is declared with; the form fits it.
            answer: Runs the function.
        """

        def body(context: CallContext, caller: object, *numbers: float) -> int | None:
            context.demand(self.capability)
            arguments = list(_lift(self.form, context, caller, iter(numbers)))
            if not kind.results:
                answer(self.name, context, arguments)
                return None
            # before the function runs: what it does could not be told to the guest afterwards
            border.require_alloc(context)
            return border.reply(context, caller, answer(self.name, context, arguments))

        return body


@dataclass(frozen=True, slots=True)
class Absent:
    """An import that only another application provides.

    Attributes:
        name: The import's.
        words: The capabilities that are unknown here. Which of them is the function's only
            its application knows, so all are demanded.
    """

    name: str
    words: tuple[str, ...]

    def body(self, kind: WasmType, _answer: Answer) -> border.Body:
        """What runs when the guest calls it: the answer that it is not to be had here."""

        def body(context: CallContext, caller: object, *_numbers: float) -> int | None:
            for word in self.words:
                context.demand(word)
            message = f"{self.name!r} is a function of an application, and this is another host"
            answer = border.err("unavailable", message)
            return border.reply(context, caller, answer) if kind.results else None

        return body


Link = Bound | Absent


def _lift(
    form: Form, context: CallContext, caller: object, numbers: Iterator[float]
) -> Iterator[object]:
    for hint in form.params:
        if hint is str or hint is bytes:
            pointer, length = int(next(numbers)), int(next(numbers))
            read = border.read_text if hint is str else border.read_bytes
            yield read(context, caller, pointer, length)
        else:
            yield hint(next(numbers))
