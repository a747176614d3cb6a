"""What crosses between host and child: it comes out as it went in, and rubbish is refused."""

import contextlib
import json
import socket
import string
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import (
    BadModule,
    CallError,
    CallResult,
    CapabilityDenied,
    DeadlineExceeded,
    FuelExhausted,
    GuestExit,
    GuestTrap,
    Limits,
    MemoryExceeded,
    MissingExport,
    SandboxError,
)
from sandbox.admission import Bound
from sandbox.errors import CallStats, TokenError
from sandbox.isolate.messages import (
    Asked,
    Call,
    Ended,
    Said,
    Uses,
    answer_frame,
    read_answer,
    read_call,
    read_told,
)
from sandbox.isolate.wire import Channel, ChannelClosedError, FrameError, parse_header
from sandbox.log import escape_text
from sandbox.token import Token, parse_token, seal, unseal

KEY = b"k" * 32
PIECES_S = 10

words = st.text(string.ascii_lowercase, min_size=1, max_size=9)
ids = st.lists(words, min_size=2, max_size=4).map(".".join)
counts = st.integers(1, 2**63 - 1)
tokens = st.builds(
    Token,
    plugin_id=ids,
    release=st.sampled_from(["", "0f" * 32]),
    capabilities=st.frozensets(words),
    hosts=st.frozensets(ids),
    limits=st.builds(Limits, fuel_units=counts, mem_bytes=counts, log_bytes=counts),
    bounds=st.dictionaries(
        words,
        st.tuples(st.none() | st.integers(0, 2**63 - 1), counts) | st.tuples(counts),
        max_size=3,
    ).map(lambda found: tuple(Bound(word, *found[word]) for word in sorted(found))),
)
utf8 = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
lowered = st.lists(st.binary() | numbers, max_size=5).map(tuple)
figures = st.tuples(st.integers(0, 2**63), st.integers(0, 2**40), st.floats(0, 1e9))
results = st.builds(
    lambda value, used, stderr: CallResult(value, used[0], used[1], used[2], stderr),
    st.none() | utf8 | st.binary() | numbers,
    figures,
    utf8,
)
rubbish = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=3),
    max_leaves=9,
)
kinds = st.sampled_from(["call", "said", "asked", "uses", "result", "error", "answer", "", 7])


@given(tokens)
def test_tokens_cross(token: Token) -> None:
    """Whatever is allowed arrives as it was minted."""
    assert unseal(seal(token, KEY), KEY) == token


@given(st.binary() | rubbish.map(lambda value: json.dumps(value).encode()))
def test_rubbish_is_no_token(text: bytes) -> None:
    """Only ``TokenError`` comes out, with and without a seal."""
    for read in (parse_token, lambda data: unseal(data, KEY)):
        with pytest.raises(TokenError):
            read(text)


@given(st.integers(0, 2**31), st.floats(0, 1e9), words, st.booleans(), st.booleans(), lowered)
def test_calls_cross(
    number: int,
    at: float,
    func: str,
    enters: bool,  # noqa: FBT001
    apart: bool,  # noqa: FBT001
    args: tuple[Any, ...],
) -> None:
    """Numbers stay integers or reals, bytes stay bytes, in their order."""
    call = Call(number, at, func, enters, apart, args)
    assert read_call(crossed(call.frame())) == call


@given(results)
def test_results_cross(result: CallResult) -> None:
    """Value, figures and stderr."""
    assert read_told(crossed(Ended(result).frame())) == Ended(result)


@given(
    st.sampled_from([FuelExhausted, MemoryExceeded, DeadlineExceeded, MissingExport, SandboxError])
    | st.builds(lambda code: lambda m: GuestTrap(m, code=code), words)
    | st.builds(lambda word: lambda m: CapabilityDenied(m, capability=word), words)
    | st.builds(lambda code: lambda m: GuestExit(m, code=code), st.integers(0, 2**32 - 1)),
    st.text(max_size=80),
    figures,
)
def test_errors_cross(make: Any, message: str, used: tuple[int, int, float]) -> None:
    """Type, code and figures are kept; the text is made harmless."""
    error: SandboxError = make(message)
    if isinstance(error, CallError):
        error.stats = CallStats(*used)
    told = read_told(crossed(Ended(None, error).frame()))
    assert isinstance(told, Ended)
    assert type(told.error) is type(error)
    assert str(told.error) == escape_text(message.encode("utf-8", "replace").decode())
    for name in ("stats", "code", "capability"):
        assert getattr(told.error, name, None) == getattr(error, name, None)


@given(
    st.integers(0, 4),
    utf8,
    words,
    st.lists(utf8 | st.binary() | numbers | st.booleans(), max_size=5),
)
def test_words_of_a_guest_cross(level: int, text: str, name: str, arguments: list[Any]) -> None:
    """Log records come out harmless; a function's arguments with text as bytes."""
    assert read_told(crossed(Said(level, "stderr", text).frame())) == Said(
        level, "stderr", escape_text(text)
    )
    as_bytes = tuple(a.encode() if isinstance(a, str) else a for a in arguments)
    assert read_told(crossed(Asked(name, tuple(arguments)).frame())) == Asked(name, as_bytes)
    assert read_answer(crossed(answer_frame(text))) == text
    assert read_answer(crossed(answer_frame(None))) is None


@given(words)
def test_questions_cross(word: str) -> None:
    """What a guest is about to use."""
    assert read_told(crossed(Uses(word).frame())) == Uses(word)


@given(st.tuples(kinds, st.lists(rubbish, max_size=6)), st.binary(max_size=99))
def test_a_child_that_lies_is_caught(said: tuple[object, list[object]], tail: bytes) -> None:
    """Any other words than a child's are a ``FrameError``, and what is taken is in its ranges."""
    frame = crossed(([said[0], *said[1]], tail))
    for read in (read_told, read_call, read_answer):
        try:
            told = read(frame)
        except FrameError:
            continue
        if isinstance(told, Ended) and told.result is not None:
            assert told.result.fuel_used >= 0
            assert told.result.took_ms >= 0
        if isinstance(told, Said):
            assert told.message.isprintable()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame(data: bytes) -> None:
    """Random bytes end in ``FrameError`` or at the end of them, and keep nobody waiting."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(data)
    theirs.close()
    refused = pytest.raises((FrameError, ChannelClosedError))
    with contextlib.closing(channel), refused:
        for _ in data + b".":  # a frame is some bytes long
            channel.receive(64)


@pytest.mark.parametrize(("header", "tail"), [(2**32 - 1, 0), (2, 65), (2**20 + 1, 0)])
def test_a_frame_that_is_too_long_is_not_read(header: int, tail: int) -> None:
    """The lengths alone are enough to refuse it."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    with theirs:
        theirs.sendall(struct.pack(">II", header, tail))
        with pytest.raises(FrameError, match="a frame of"):
            channel.receive(64)
    channel.close()


def crossed(frame: tuple[list[Any], bytes]) -> tuple[list[Any], bytes]:
    """A frame after the wire's JSON."""
    return parse_header(json.dumps(frame[0]).encode("ascii")), frame[1]


@pytest.mark.parametrize(
    ("said", "tail", "why"),
    [
        (["result", "int", None, 0, [1, 1, 1.0]], b"", "a result that is no number"),
        (["result", "int", 1.5, 0, [1, 1, 1.0]], b"", "a result that is no number"),
        (["result", "list", None, 0, [1, 1, 1.0]], b"", "a result of no kind"),
        (["error", "KeyboardInterrupt", None, [1, 1, 1.0]], b"", "an error of no kind"),
        (["asked", "lookup", ["text"]], b"", "an argument that is none"),
        (["asked", "lookup", [[9]]], b"", "an argument that is none"),
        (["asked", "lookup", [[1]]], b"ab", "bytes that are no argument's"),
        (["said", 2, "nowhere"], b"", "no word of a child"),
        (["said", 2, "stdout"], b"\xff", "text that is not UTF-8"),
        (["result", "str", None, 1, [1, 1, 1.0]], b"\xff", "text that is not UTF-8"),
        (["result", "str", None, 9, [1, 1, 1.0]], b"", "a value that is longer"),
        (["result", "none", None, 0, [1, -1, 1.0]], b"", "figures that are none"),
        (["result", "none", None, 0, "many"], b"", "figures that are none"),
        (["error", "Other", "extra", [1, 1, 1.0]], b"", "an error of no kind"),
    ],
)
def test_what_no_child_says_is_refused_by_name(said: list[Any], tail: bytes, why: str) -> None:
    """Each is the end of the child."""
    with pytest.raises(FrameError, match=why):
        read_told((said, tail))


def test_an_error_that_does_not_cross_comes_as_the_root_of_its_family() -> None:
    """With its text."""
    told = read_told(crossed(Ended(None, BadModule("cannot load it")).frame()))
    assert isinstance(told, Ended)
    assert type(told.error) is SandboxError
    assert str(told.error) == "cannot load it"


@pytest.mark.parametrize(
    "wait",
    [
        lambda channel, deadline_s: channel.receive(10, deadline_s=deadline_s),
        lambda channel, deadline_s: channel.send(["x"], bytes(1 << 22), deadline_s=deadline_s),
    ],
    ids=["receive", "send"],
)
def test_a_wait_ends_at_its_deadline(wait: Callable[[Channel, float], object]) -> None:
    """Whether the other side says nothing, only a part, or takes nothing; and never before."""
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours)
        theirs.sendall(b"\0\0\0\x09\0\0\0\0[")
        for wait_s in (0.06, 0.01):
            deadline_s = time.monotonic() + wait_s
            with pytest.raises(TimeoutError):
                wait(channel, deadline_s)
            assert time.monotonic() >= deadline_s
        channel.close()


def test_a_long_frame_in_small_pieces_is_taken_in_time() -> None:
    """What came already is not copied for each piece that follows: that would take minutes."""
    data = bytes(range(256)) * (1 << 17)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    receiving, sending = Channel(ours), Channel(theirs)

    def send() -> None:
        with contextlib.suppress(ChannelClosedError):
            sending.send(["word"], data)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        frame = receiving.receive(len(data), deadline_s=time.monotonic() + PIECES_S)
    finally:
        receiving.close()
        sender.join(PIECES_S)
        sending.close()
    assert frame == (["word"], data)
