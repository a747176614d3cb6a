"""The functions that an application registered with one sandbox, and who may import them."""

import threading
from collections.abc import Iterable, Mapping, Sequence

from sandbox.capabilities import CAPABILITIES, CORE_IMPORTS, HOST_MODULES
from sandbox.context import CallContext
from sandbox.errors import IncompatibleError, RegistrationError
from sandbox.hostfuncs import border, custom
from sandbox.hostfuncs.custom import HostFunction, can_stand_in
from sandbox.hostfuncs.links import Absent, Answer, Bound, Link
from sandbox.hostfuncs.threads import Threads
from sandbox.shape import Import, Shape


class FunctionTable:
    """An application's functions by name; complete before the first plugin is loaded.

    Args:
        stands_in: This host is not the application: what a plugin imports of it can be linked
            and is unavailable when it is called.
    """

    def __init__(self, *, stands_in: bool) -> None:
        self._stands_in = stands_in
        self._threads = Threads()
        self._lock = threading.Lock()
        self._functions: dict[str, HostFunction] = {}
        self._is_complete = False

    def add(self, function: HostFunction) -> None:
        """Make a function importable.

        Raises:
            RegistrationError: Its name is taken, or a plugin was loaded already.
        """
        what = f"cannot register the host function {function.name!r}"
        with self._lock:
            if self._is_complete:
                raise RegistrationError(
                    f"{what}: a plugin has been loaded; register all functions before the first"
                )
            if function.name in self._functions:
                raise RegistrationError(f"{what}: there is one of that name already")
            self._functions[function.name] = function

    def capabilities(self) -> Mapping[str, str]:
        """The capability of each function, by the function's name."""
        with self._lock:
            return {function.name: function.capability for function in self._functions.values()}

    def complete(self) -> None:
        """Take no more functions: a plugin was loaded with those that there are."""
        with self._lock:
            self._is_complete = True

    def link(self, shape: Shape, requested: Iterable[str], *, name: str) -> Mapping[Import, Link]:
        """What a module's imports that are an application's are linked to.

        A module whose manifest requests no capability beyond the sandbox's own and the
        registered functions' gets nothing that it doesn't find registered.

        Args:
            shape: The module's.
            requested: The capabilities that the manifest asks for.
            name: For messages.

        Raises:
            IncompatibleError: An import has another type than the function, or its function is
                not registered.
        """
        with self._lock:
            functions = dict(self._functions)
        known = {*CAPABILITIES, *(function.capability for function in functions.values())}
        unknown = tuple(sorted(set(requested) - known))
        links: dict[Import, Link] = {}
        for item in shape.imports:
            if item.module not in HOST_MODULES or item.name in CORE_IMPORTS or item.kind is None:
                continue
            function = functions.get(item.name)
            if function is not None:
                if not function.form.fits(item.kind):
                    raise IncompatibleError(
                        f"cannot load {name}: it imports {item} as {item.kind}, "
                        f"expected {function.form}"
                    )
                links[item] = Bound(function.name, function.capability, function.form)
            elif unknown and self._stands_in and can_stand_in(item.name, item.kind):
                links[item] = Absent(item.name, unknown)
            elif unknown:
                raise IncompatibleError(
                    f"cannot load {name}: it imports {item}, which no host function provides; "
                    f"it requests {', '.join(unknown)}, so it may be meant for an application "
                    "that registers such a function"
                )
        return links

    def answer(self, name: str, context: CallContext, arguments: Sequence[object]) -> str:
        """Run a registered function for a call; see ``custom.answer``.

        Raises:
            StopCallError: The call has ended meanwhile.
        """
        return custom.answer(self._functions[name], context, self._threads, arguments)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()


def bodies(links: Mapping[Import, Link], answer: Answer) -> Mapping[Import, border.Body]:
    """What runs behind each linked import.

    Args:
        links: See ``FunctionTable.link``.
        answer: Runs a function, here or by asking the process that has it.
    """
    return {
        item: link.body(item.kind, answer) for item, link in links.items() if item.kind is not None
    }
