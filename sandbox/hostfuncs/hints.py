"""What crosses to an application's function and back, told from its type hints. Pure."""

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from sandbox.errors import RegistrationError
from sandbox.signature import WasmType

_TEXT = (("i32",), ("i32",))

KINDS: dict[object, tuple[tuple[str, ...], ...]] = {
    str: _TEXT,
    bytes: _TEXT,
    int: (("i64", "i32"),),
    float: (("f64", "f32"),),
    bool: (("i32",),),
}
"""For each hint of a parameter its wasm parameters; where two types fit, the import's chooses."""

_ALLOWED = "str, bytes, int, float or bool"
_PLAIN = {None, types.NoneType, Any, object, str, int, float, bool, list, tuple, dict}
_PACKED = ("i64",)


@dataclass(frozen=True, slots=True)
class Form:
    """How a function is called from wasm.

    Attributes:
        params: The hint of each parameter, a key of ``KINDS``.
        answers: It returns something; else its import may be declared without a result.
    """

    params: tuple[type, ...]
    answers: bool

    def fits(self, kind: WasmType) -> bool:
        """Whether an import of that type can be linked to the function."""
        choices = self._choices()
        return (
            len(kind.params) == len(choices)
            and all(word in choice for word, choice in zip(kind.params, choices, strict=True))
            and (kind.results == _PACKED or (kind.results == () and not self.answers))
        )

    def __str__(self) -> str:
        params = ", ".join(" or ".join(choice) for choice in self._choices())
        return f"({params}) -> (i64)" + ("" if self.answers else " or ()")

    def _choices(self) -> list[tuple[str, ...]]:
        return [choice for hint in self.params for choice in KINDS[hint]]


def form_of(function: Callable[..., object], name: str) -> Form:
    """Read the hints of a function; parameters that have a keyword and a default stay out.

    Raises:
        RegistrationError: A hint is missing or is of no use; names the parameter.
    """
    what = f"cannot register the host function {name!r}"
    if not callable(function):
        raise RegistrationError(f"{what}: got {function!r}, expected a function")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise RegistrationError(f"{what}: it is async, expected a plain function")
    try:
        signature = inspect.signature(function, eval_str=True)
    # a hint may be text, and that text any code at all
    except Exception as error:
        raise RegistrationError(f"{what}: its type hints can't be read: {error}") from error
    hints = [
        _parameter(parameter, what)
        for parameter in signature.parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty
    ]
    result = signature.return_annotation
    if result is signature.empty:
        raise RegistrationError(f"{what}: its result has no type hint, expected one, or None")
    if not _is_json(result):
        raise RegistrationError(
            f"{what}: its result is {inspect.formatannotation(result)}, expected what JSON can "
            "carry: str, int, float, bool, None, and lists, tuples and dicts of them"
        )
    answers = not any(_bare(result) is nothing for nothing in (None, types.NoneType))
    return Form(tuple(hints), answers)


def _parameter(parameter: inspect.Parameter, what: str) -> type:
    if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
        raise RegistrationError(
            f"{what}: its parameter {str(parameter).partition(':')[0]!r} is not positional, "
            "expected positional parameters, each with a type hint"
        )
    hint = _bare(parameter.annotation)
    if hint is parameter.empty:
        raise RegistrationError(
            f"{what}: its parameter {parameter.name!r} has no type hint, expected {_ALLOWED}"
        )
    for kind in KINDS:
        if hint is kind and isinstance(kind, type):
            return kind
    raise RegistrationError(
        f"{what}: its parameter {parameter.name!r} is {inspect.formatannotation(hint)}, "
        f"expected {_ALLOWED}"
    )


def _is_json(hint: object) -> bool:
    hint = _bare(hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is dict:
        return parts[0] is str and _is_json(parts[1])
    if origin in {list, tuple, Union, types.UnionType}:
        return all(part is Ellipsis or _is_json(part) for part in parts)
    if origin is Literal:
        return all(_is_json(type(part)) for part in parts)
    return is_typeddict(hint) or any(hint is plain for plain in _PLAIN)


def _bare(hint: object) -> object:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
