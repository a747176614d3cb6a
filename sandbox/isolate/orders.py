"""What a child is told before its first call: the token, sealed, and how the module is linked.

It comes from the host, over a socket of the host's own. The token's seal says that host and
zygote are those who started together.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.hostfuncs.hints import KINDS, Form
from sandbox.hostfuncs.links import Absent, Bound, Link
from sandbox.isolate.wire import Frame, FrameError
from sandbox.shape import Import, Shape
from sandbox.signature import Signature, WasmType
from sandbox.token import Token, seal, unseal

MAX_ORDERS_BYTES = 16 * 1024 * 1024
_HINTS = {kind.__name__: kind for kind in KINDS if isinstance(kind, type)}


@dataclass(frozen=True, slots=True)
class Orders:
    """Everything that a child must know beside the code.

    Attributes:
        token: What it may do.
        name: Id and version, for messages.
        stem: The first argument of a command.
        reused: Calls share one instance.
        environment: WASI environment variables.
        shape: What the module needs and offers.
        signatures: What can be called.
        links: The imports that are an application's functions.
    """

    token: Token
    name: str
    stem: str
    reused: bool
    environment: Mapping[str, str]
    shape: Shape
    signatures: Mapping[str, Signature]
    links: Mapping[Import, Link]

    def frame(self, key: bytes) -> Frame:
        """As a frame, the token sealed."""
        fields = {
            "name": self.name,
            "stem": self.stem,
            "reused": self.reused,
            "environment": dict(self.environment),
            "imports": [[i.module, i.name, _types(i.kind)] for i in self.shape.imports],
            "functions": {name: _types(kind) for name, kind in self.shape.functions.items()},
            "memory": self.shape.memory,
            "least_memory_bytes": self.shape.least_memory_bytes,
            "starts": self.shape.starts,
            "signatures": {
                name: [s.params, s.result, s.variadic] for name, s in self.signatures.items()
            },
            "links": [[i.module, i.name, _types(i.kind), _spell(k)] for i, k in self.links.items()],
        }
        sealed = seal(self.token, key)
        return ["orders", len(sealed)], sealed + json.dumps(fields).encode("ascii")


def read_orders(frame: Frame, key: bytes) -> Orders:
    """The orders in a frame.

    Raises:
        FrameError: It holds none.
        TokenError: The token is not sealed with the key.
    """
    match frame[0]:
        case ["orders", int(of_token)]:
            token = unseal(frame[1][:of_token], key)
            fields = json.loads(frame[1][of_token:])
        case _:
            raise FrameError("no orders")
    return Orders(
        token=token,
        name=fields["name"],
        stem=fields["stem"],
        reused=fields["reused"],
        environment=fields["environment"],
        shape=Shape(
            imports=tuple(_import(*item) for item in fields["imports"]),
            functions={name: WasmType(*map(tuple, k)) for name, k in fields["functions"].items()},
            memory=fields["memory"],
            least_memory_bytes=fields["least_memory_bytes"],
            starts=fields["starts"],
        ),
        signatures={
            name: Signature(tuple(params), result, variadic)
            for name, (params, result, variadic) in fields["signatures"].items()
        },
        links={_import(*item[:3]): _link(item[3]) for item in fields["links"]},
    )


def _types(kind: WasmType | None) -> list[tuple[str, ...]] | None:
    return None if kind is None else [kind.params, kind.results]


def _import(module: str, name: str, kind: list[list[str]] | None) -> Import:
    return Import(module, name, None if kind is None else WasmType(*map(tuple, kind)))


def _spell(link: Link) -> list[object]:
    if isinstance(link, Absent):
        return ["absent", link.name, link.words]
    hints = [hint.__name__ for hint in link.form.params]
    return ["bound", link.name, link.capability, hints, link.form.answers]


def _link(spelled: list[object]) -> Link:
    match spelled:
        case ["absent", str(name), [*words]]:
            return Absent(name, tuple(map(str, words)))
        case ["bound", str(name), str(capability), [*hints], bool(answers)]:
            return Bound(name, capability, Form(tuple(_HINTS[str(h)] for h in hints), answers))
    raise FrameError("no link")
