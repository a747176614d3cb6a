"""Vectors at a module's border, found in its bytes before the binding is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import wat2wasm

from sandbox.binary import beginning, has_vectors_at_its_border
from support.sandbox import BUMP, ECHO

HEADER = b"\0asm\x01\0\0\0"
BESIDE = """(import "env" "t" (table 1 9 funcref)) (import "env" "u" (table 1 funcref))
  (import "env" "m" (memory 1 300)) (import "env" "g" (global (mut i64)))"""


@pytest.mark.parametrize(
    ("wat", "found"),
    [
        ("(module)", False),
        (ECHO, False),
        (f"(module {BESIDE})", False),
        ('(module (func (param v128)) (memory (export "m") 1))', False),
        (f"(module {BESIDE} (func (param v128)))", False),
        (f'(module {BESIDE} (func (export "x") (param i32)) (func (param v128)))', False),
        (f'(module {BESIDE} (func (param i32)) (func (export "x") (param v128)))', True),
        (f'(module {BESIDE} (import "env" "f" (func (result v128))))', True),
        (f'(module {BUMP} (func (export "x") (result i32 v128) unreachable))', True),
        (
            "(module (func $x (param v128)) (table 1 funcref) (elem (i32.const 0) $x))",
            False,
        ),
    ],
)
def test_only_what_crosses_counts(wat: str, found: bool) -> None:  # noqa: FBT001  # the answer
    """Imported and exported functions, whatever else there is."""
    assert has_vectors_at_its_border(bytes(wat2wasm(wat))) is found


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (b"\x01\x03\x01\x5f\x00", "type form 0x5f"),
        (b"\x01\x05\x01\x60\x01\x7b\x00\x02\x05\x01\x00\x00\x04\x00", "import of kind 4"),
        (b"\x01\x02\x01\x60", "ends too early"),
        (b"\x01\x05\x01\x60\x01\x7b\x00\x07\x04\x01\x00\x00\x05", "ends too early"),
    ],
)
def test_what_no_valid_module_has_is_refused(sections: bytes, reason: str) -> None:
    """Forms that the engine's configuration excludes, and an end too early."""
    with pytest.raises(ValueError, match=reason):
        has_vectors_at_its_border(HEADER + sections)


@pytest.mark.parametrize(
    ("wat", "pages", "starts"),
    [
        ("(module)", 0, False),
        ("(module (memory 0))", 0, False),
        (f"(module {BUMP})", 2, False),
        ("(module (table 9 funcref) (memory 300 400))", 300, False),
        ("(module (memory 1) (func $s) (start $s))", 1, True),
    ],
)
def test_what_a_module_begins_with_is_read(wat: str, pages: int, starts: bool) -> None:  # noqa: FBT001  # the answer
    """Its memory, exported or not, and whether it has a start function."""
    assert beginning(bytes(wat2wasm(wat))) == (pages * 65_536, starts)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but an answer or a ValueError, though only valid modules come here."""
    try:
        assert has_vectors_at_its_border(HEADER + data) in {True, False}
    except ValueError as error:
        assert str(error)  # noqa: PT017  # either way is right


def test_a_module_that_ends_in_its_memories_is_refused() -> None:
    """No answer is made up of what is not there."""
    with pytest.raises(ValueError, match="ends too early"):
        beginning(b"\0asm\x01\0\0\0\x05\x03\x01")
