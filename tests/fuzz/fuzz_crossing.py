"""Fuzzes what the host and a child read of each other: tokens, headers, words (``make fuzz``).

    python tests/fuzz/fuzz_crossing.py [libFuzzer's options]

A token that is taken must be spelled as it would be again; a word of a child is one of the known
ones; and nothing but the room's own error comes out.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sandbox"]):
    from sandbox.admission import Bound
    from sandbox.errors import GuestTrap, TokenError
    from sandbox.isolate.messages import Call, Ended, Said, Uses, read_call, read_told
    from sandbox.isolate.wire import FrameError, parse_header
    from sandbox.limits import Limits
    from sandbox.result import CallResult
    from sandbox.token import Token, parse_token, seal, unseal

KEY = bytes(32)
_MAC_BYTES = 32


def fuzz(data: bytes) -> None:
    """One input, as each of the things that cross."""
    try:
        token = parse_token(data)
    except TokenError:
        pass
    else:
        sealed = seal(token, KEY)
        if sealed[_MAC_BYTES:] != data or unseal(sealed, KEY) != token:
            raise AssertionError(data)
    try:
        unseal(data, KEY)
    except TokenError:
        pass
    else:
        raise AssertionError(data)  # a seal was guessed
    text, _, tail = data.partition(b"\n")
    for read in (read_told, read_call):
        try:
            read((parse_header(text), tail))
        except FrameError:
            continue


def seeds(folder: Path) -> None:
    """Write what is well formed, for the fuzzer to begin with."""
    token = Token(
        plugin_id="org.example.hello",
        release="ab" * 32,
        capabilities=frozenset({"log", "network"}),
        hosts=frozenset({"*.example.net:8443"}),
        limits=Limits(),
        bounds=(Bound("log", expires_s=1_800_000_000), Bound("network", max_calls=3)),
    )
    (folder / "token").write_bytes(seal(token, KEY)[_MAC_BYTES:])
    frames = (
        Call(1, 0.5, "run", True, False, (b"text", 7, 0.5)).frame(),  # noqa: FBT003
        Said(2, "stderr", "text").frame(),
        Uses("network").frame(),
        Ended(CallResult("text", 1, 2, 0.5)).frame(),
        Ended(None, GuestTrap("no", code="UNREACHABLE")).frame(),
    )
    for number, (header, tail) in enumerate(frames):
        (folder / f"frame{number}").write_bytes(json.dumps(header).encode() + b"\n" + tail)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, corpus], fuzz)
        atheris.Fuzz()
