"""Modules by the byte, for what no assembler would write."""


def number(value: int) -> bytes:
    """A number as wasm writes it."""
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def section(kind: int, *items: bytes) -> bytes:
    """A section with a list in it."""
    content = number(len(items)) + b"".join(items)
    return bytes([kind]) + number(len(content)) + content


def module(*bodies: bytes, more: bytes = b"") -> bytes:
    """A module of functions without parameters, by their bodies."""
    types = section(1, b"\x60\0\0")
    functions = section(3, *[b"\0"] * len(bodies))
    code = section(10, *[number(len(body)) + body for body in bodies])
    return b"\0asm\x01\0\0\0" + types + functions + code + more


def variables(count: int) -> bytes:
    """A body that declares variables and does nothing."""
    return b"\x01" + number(count) + b"\x7f" + b"\x0b"


BOMB = module(*[variables(50_000)] * 3000)
"""Little to read, and long to compile."""
