"""Limits, signatures, arguments, capabilities and log lines: rules without a guest."""

import subprocess
import sys

import pytest

import sandbox
from sandbox.arguments import argv, lower
from sandbox.capabilities import CAPABILITIES, CORE_IMPORTS, effective
from sandbox.errors import ArgumentError
from sandbox.limits import Limits, RequestedLimits
from sandbox.log import CallLog, LogRecord, escape_text
from sandbox.signature import COMMAND, Signature, WasmType, default_signature


def test_reading_a_manifest_does_not_load_the_engine() -> None:
    """``sandbox.manifest`` and the package itself import no wasmtime."""
    code = (
        "import sys, sandbox\n"
        "from sandbox import parse_manifest, find_sets, Limits, SandboxError, CallResult, Slot\n"
        "sys.exit('wasmtime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_every_public_name_is_there() -> None:
    """Each name that the package lists can be had, and others are an AttributeError."""
    for name in sandbox.__all__:
        assert getattr(sandbox, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = sandbox.Nonsense


@pytest.mark.parametrize("value", [0, -1, 2**63, 2**64, True, 1.0, "1"])
@pytest.mark.parametrize("field", ["fuel_units", "mem_bytes", "wall_timeout_ms", "memories"])
def test_no_value_means_no_limit(field: str, value: object) -> None:
    """What wasmtime would wrap to 0 or to everything is refused by name."""
    with pytest.raises(ValueError, match=f"cannot limit {field}: got"):
        Limits(**{field: value})  # type: ignore[arg-type]


def test_a_plugin_can_only_ask_for_less() -> None:
    """Each requested bound counts where it is lower than the operator's."""
    limits = Limits(fuel_units=100, mem_bytes=200, wall_timeout_ms=300)
    lowered = limits.lowered_by(RequestedLimits(fuel_units=50, mem_bytes=10**9))
    assert (lowered.fuel_units, lowered.mem_bytes, lowered.wall_timeout_ms) == (50, 200, 300)


@pytest.mark.parametrize(
    ("wasm", "signature"),
    [
        (WasmType(("i32", "i32"), ("i64",)), Signature(("string",), "string")),
        (WasmType((), ("i64",)), Signature((), "string")),
        (WasmType(("i64",), ("i64",)), Signature(("i64",), "i64")),
        (WasmType(("i32", "f64"), ()), Signature(("i32", "f64"), "none")),
        (WasmType((), ("f32",)), Signature((), "f32")),
        (WasmType((), ("i32", "i32")), None),
        (WasmType(("v128",), ()), None),
        (WasmType(("externref",), ()), None),
    ],
)
def test_the_default_signature_of_a_function(wasm: WasmType, signature: Signature | None) -> None:
    """Strings by their shape, numbers as they are, and nothing that can't cross."""
    assert default_signature(wasm) == signature


def test_a_signature_lowers_to_wasm() -> None:
    """Text is a pointer and a length in, one packed i64 out."""
    signature = Signature(("string", "i32", "bytes"), "string")
    assert signature.lowered() == WasmType(("i32", "i32", "i32", "i32", "i32"), ("i64",))
    assert Signature((), "none").lowered() == WasmType((), ())
    assert str(signature) == "(string, i32, bytes) -> string"


def test_arguments_are_lowered_by_their_types() -> None:
    """Text becomes UTF-8, numbers stay, and text of numbers is read."""
    signature = Signature(("string", "bytes", "i32", "i64", "f32", "f64"), "none")
    assert lower("f", signature, ["é", b"\xff", -1, "12", 1, "2.5"]) == [
        "é".encode(),
        b"\xff",
        -1,
        12,
        1.0,
        2.5,
    ]
    assert lower("_start", COMMAND, ["a", "b"]) == [b"a", b"b"]
    assert argv("_start", "hello", [b"a", b"b"]) == ("hello", "a", "b")


@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        ("string", b"bytes"),
        ("string", 1),
        ("string", "\ud800"),
        ("bytes", 1),
        ("i32", 2**32),
        ("i32", -(2**31) - 1),
        ("i32", True),
        ("i32", 1.0),
        ("i32", "one"),
        ("i32", b"1"),
        ("i64", 2**64),
        ("f32", "nan"),
        ("f64", "x"),
        ("f64", True),
        ("f64", b"1"),
        ("f64", 10**400),
    ],
)
def test_an_argument_of_another_type_is_refused_by_place(kind: str, argument: str | int) -> None:
    """What does not fit its parameter is an ArgumentError that says which one it was."""
    with pytest.raises(ArgumentError, match="cannot call f: argument 1: got"):
        lower("f", Signature((kind,), "none"), [argument])


def test_the_number_of_arguments_is_checked() -> None:
    """Too few and too many are refused with the signature."""
    with pytest.raises(ArgumentError, match=r"got 0 arguments, expected 1: \(string\) -> string"):
        lower("f", Signature(("string",), "string"), [])
    with pytest.raises(ArgumentError, match="got 1 arguments, expected 0"):
        lower("f", Signature((), "none"), ["x"])


def test_a_nul_can_not_end_an_argument_early() -> None:
    """An argument that WASI would cut at a NUL is refused."""
    with pytest.raises(ArgumentError, match="expected text without NUL"):
        argv("_start", "hello", [b"a\0b"])


def test_capabilities_and_imports_agree() -> None:
    """Both tables name the same functions, and ``log`` needs a grant but no request."""
    named = {name for names in CAPABILITIES.values() for name in names}
    assert named == set(CORE_IMPORTS)
    assert all(CORE_IMPORTS[name].capability in CAPABILITIES for name in named)
    assert effective(["llm", "plan"], ["log", "plan", "network"]) == {"log", "plan"}
    assert effective(["log"], []) == frozenset()


def test_control_characters_are_escaped_and_text_is_not() -> None:
    """Terminal escapes, line ends and direction marks are shown, letters are left alone."""
    assert escape_text("Grüße, 世界 🙂") == "Grüße, 世界 🙂"
    assert escape_text("\x1b[2J\r\n\x9b\u202e\u2028") == r"\x1b[2J\r\n\x9b\u202e\u2028"


def _collect(budget_bytes: int) -> tuple[CallLog, list[LogRecord]]:
    records: list[LogRecord] = []
    return CallLog("org.example.hello", budget_bytes, records.append), records


def test_lines_are_joined_over_writes() -> None:
    """A line may come in pieces; the last one needs no end."""
    log, records = _collect(1000)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"other\n")
    log.write("stdout", b"o\n\nthree")
    log.flush()
    assert [(r.source, r.message) for r in records] == [
        ("stdout", "one"),
        ("stderr", "other"),
        ("stdout", "two"),
        ("stdout", ""),
        ("stdout", "three"),
    ]


def test_levels_are_clamped() -> None:
    """A level outside of 0 to 4 is the nearest one."""
    log, records = _collect(1000)
    log.record(-5, b"low", "host_log")
    log.record(99, b"high", "host_log")
    assert [record.level for record in records] == [0, 4]


@pytest.mark.parametrize("line", [b"x" * 30 + b"\n", b"\n"])
def test_a_flood_ends_with_one_note(line: bytes) -> None:
    """Past the budget nothing more is kept, empty lines included, and it is said once."""
    log, records = _collect(100)
    for _ in range(1000):
        log.write("stdout", line)
    log.flush()
    assert len(records) <= 101
    assert [r.source for r in records].count("sandbox") == 1
    assert records[-1].source == "sandbox"


def test_a_line_without_end_is_cut() -> None:
    """An endless line becomes records of bounded length."""
    log, records = _collect(100_000)
    log.write("stdout", b"x" * 20_000)
    log.flush()
    assert [len(record.message) for record in records] == [8192, 8192, 3616]
