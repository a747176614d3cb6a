"""Malformed modules: a good one with some of its bytes changed, a thousand times."""

import random
from pathlib import Path

import pytest

from sandbox import SandboxError
from support.sandbox import BUMP, ECHO, admit, loaded, plugin_files, sandbox

SAMPLE = Path(__file__).parents[2] / "sdk" / "samples" / "hello" / "0.1.0" / "hello-plugin.wasm"
WORDS = f"""(module
  (import "env" "host_log" (func $log (param i32 i32 i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  {BUMP}
  (table 4 funcref) (elem (i32.const 0) $alloc) (data (i32.const 16) "some words")
  (func $start (call $log (i32.const 2) (i32.const 16) (i32.const 10))) (start $start)
  (func (export "run") (param $ptr i32) (param $len i32) (result i64)
    (drop (call $random (i32.const 0) (i32.const 16)))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
            (i64.extend_i32_u (local.get $len)))))"""


def mutations(payload: bytes, count: int, seed: str) -> list[bytes]:
    """The payload with bytes changed, dropped, doubled and moved; the same ones every time."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    mutated = []
    for _ in range(count):
        data = bytearray(payload)
        for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
            at = chance.randrange(8, len(data))
            match chance.randrange(5):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                case 2:
                    del data[at : at + chance.randrange(1, 8)]
                case 3:
                    data[at:at] = data[at : at + chance.randrange(1, 8)]
                case _:
                    data[at:at] = bytes(chance.randrange(256) for _ in range(3))
            if len(data) <= 9:
                break
        mutated.append(bytes(data))
    return mutated


@pytest.mark.parametrize("name", ["words", "sample"])
def test_mutated_modules_are_refused_or_run_within_their_limits(name: str) -> None:
    """None takes the host along: each is refused, or its calls end as any guest's do."""
    payload = SAMPLE.read_bytes() if name == "sample" else plugin_files(WORDS).payload
    admission = admit(fuel_units=200_000, mem_bytes=4 << 20, wall_timeout_ms=2_000)
    ran = 0
    with sandbox(admission) as box:
        for mutated in mutations(payload, 500, name):
            try:
                plugin = box.load(plugin_files(mutated))
            except SandboxError:
                continue
            for func in list(plugin.exports())[:4]:
                ran += 1
                try:
                    plugin.call(func, _arguments(plugin.exports()[func].params))
                except SandboxError:
                    continue
            plugin.close()
    assert ran > 20  # not everything was refused
    with loaded(ECHO) as plugin:
        assert plugin.call("run", ["still here"]).value == "still here"


def _arguments(params: tuple[str, ...]) -> list[str | int]:
    return ["text" if kind in {"string", "bytes"} else 1 for kind in params]
