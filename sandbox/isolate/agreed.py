"""What a child says, held against what was agreed: the types of functions and of results. Pure."""

from collections.abc import Sequence

from sandbox.hostfuncs.links import Bound
from sandbox.isolate.wire import FrameError
from sandbox.result import Value
from sandbox.signature import Signature

_TYPES: dict[str, type] = {
    "string": str,
    "bytes": bytes,
    "i32": int,
    "i64": int,
    "f32": float,
    "f64": float,
    "none": type(None),
}


def require_result(value: Value, signature: Signature | None) -> None:
    """Refuse a result that the function can't have.

    Args:
        value: As a child told it.
        signature: The function's; None = nothing was called.

    Raises:
        FrameError: It is of another type.
    """
    if type(value) is not _TYPES[signature.result if signature else "none"]:
        raise FrameError("a result of another type")


def arguments_of(bound: Bound, told: Sequence[object]) -> list[object]:
    """The arguments of an application's function, by its form.

    Raises:
        FrameError: They are others.
    """
    hints = bound.form.params
    if len(hints) != len(told):
        raise FrameError("another number of arguments")
    arguments: list[object] = []
    for hint, argument in zip(hints, told, strict=True):
        if hint is str and isinstance(argument, bytes):
            try:
                arguments.append(argument.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise FrameError("text that is not UTF-8") from error
        elif type(argument) is hint:
            arguments.append(argument)
        else:
            raise FrameError("an argument of another type")
    return arguments
