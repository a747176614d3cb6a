"""A call of nobody's plugin, made by a child that waits for its own.

A forked process pays for each page that it touches for the first time, and for what a library
sets up when it is first used: most of what a first call takes. It is paid before anyone waits.
"""

import json

from wasmtime import Config, Engine, Module, wat2wasm

from sandbox.code import Code
from sandbox.context import CallContext
from sandbox.engine import new_engine
from sandbox.guest import Guest
from sandbox.isolate.messages import Call, Ended, read_call, read_told
from sandbox.isolate.orders import Orders, read_orders
from sandbox.isolate.wire import parse_header
from sandbox.log import CallLog
from sandbox.module import shape_of
from sandbox.result import CallResult
from sandbox.signature import Signature
from sandbox.token import Token
from sandbox.worker import Surroundings, Worker

_NAME = "rehearsal"
_TEXT = b"text"
_WAT = """(module
  (import "stack_composer_v1" "host_log" (func (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 8))
  (func (export "run") (param i32 i32) (result i64)
    (call 0 (i32.const 2) (local.get 0) (local.get 1))
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32))
            (i64.extend_i32_u (local.get 1)))))"""


class Rehearsal:
    """What the zygote prepares, and each child plays through."""

    def __init__(self) -> None:
        engine = new_engine(_lonely)
        module = Module(engine, bytes(wat2wasm(_WAT)))
        self._code = Code.of(bytes(module.serialize()))
        self._orders = Orders(
            token=Token(
                plugin_id=f"org.example.{_NAME}", release="", capabilities=frozenset({"log"})
            ),
            name=_NAME,
            stem=_NAME,
            reused=False,
            environment={},
            shape=shape_of(module, name=_NAME),
            signatures={"run": Signature(("string",), "string")},
            links={},
        )

    def play(self, key: bytes) -> None:
        """Read orders, link, and run a call, all on this thread: none may be left behind.

        Args:
            key: What a token is sealed with.
        """
        orders = read_orders(self._orders.frame(key), key)
        header, tail = Call(0, 0.0, "run", enters=True, throw_away=False, args=(_TEXT,)).frame()
        call = read_call((parse_header(json.dumps(header).encode("ascii")), tail))
        context = CallContext(
            plugin_id=orders.token.plugin_id,
            func=call.func,
            limits=orders.token.limits,
            allowed=orders.token.capabilities,
            argv=(orders.stem,),
            log=CallLog(orders.token.plugin_id, orders.token.limits.log_bytes, lambda _: None),
            is_command=False,
        )
        worker = Worker(self._code, orders.shape, Surroundings({}, None, {}), name=_NAME)
        worker.seat.context = context
        context.store = cell = worker.new_store(context)
        cell.set_fuel(context.limits.fuel_units)
        guest = Guest.open(cell, context)
        value = guest.invoke(context, orders.signatures[call.func], call.args, free=False)
        cell.close()
        read_told(Ended(CallResult(value, 0, 0, 0.0)).frame())


def _lonely(config: Config) -> Engine:
    config.parallel_compilation = False  # threads that a process might fork beside
    return Engine(config)
