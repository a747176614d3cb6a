"""The group behind Ed25519, as far as telling a sound public key from a weak one needs it.

A library that loads a public key checks its length only. Under a key of small order a
signature can be forged without any private key, and under one of mixed order two verifiers
may disagree. Plain integers, about 2 ms a key: public keys are no secret, so nothing here
needs to run in constant time.

Names follow RFC 8032, section 5.1: ``P`` the field, ``L`` the order of the prime subgroup, ``D``
the curve's constant; a point is (X, Y, Z, T) with x = X/Z, y = Y/Z, x·y = T/Z.
"""

import functools

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
_SQRT_MINUS_ONE = pow(2, (P - 1) // 4, P)
_COFACTOR = 8
_NEUTRAL = (0, 1, 1, 0)

Point = tuple[int, int, int, int]


@functools.lru_cache(maxsize=1024)
def weakness(raw: bytes) -> str | None:
    """Say what is wrong with a public key.

    Args:
        raw: The 32 bytes of the key (RFC 8032, section 5.1.2).

    Returns:
        A phrase that follows "the key", such as "is of small order"; None for a sound key.
    """
    number = int.from_bytes(raw, "little")
    y = number & ((1 << 255) - 1)
    sign = number >> 255
    if y >= P:
        return "is not encoded canonically"
    x = _recover_x(y)
    if x is None:
        return "is not a point of the curve"
    if x == 0 and sign:
        return "is not encoded canonically"
    if x & 1 != sign:
        x = P - x
    point = (x, y, 1, x * y % P)
    if _is_neutral(_multiply(_COFACTOR, point)):
        return "is of small order"
    if not _is_neutral(_multiply(L, point)):
        return "is of mixed order"
    return None


def _recover_x(y: int) -> int | None:
    """Solve the curve's equation for x; RFC 8032, section 5.1.3, steps 2 and 3."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * _SQRT_MINUS_ONE % P
    return None if (x * x - square) % P else x


def _add(one: Point, two: Point) -> Point:
    """Add two points; RFC 8032, section 5.1.4, complete for every pair."""
    a = (one[1] - one[0]) * (two[1] - two[0]) % P
    b = (one[1] + one[0]) * (two[1] + two[0]) % P
    c = 2 * one[3] * two[3] * D % P
    d = 2 * one[2] * two[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _multiply(factor: int, point: Point) -> Point:
    total: Point = _NEUTRAL
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _is_neutral(point: Point) -> bool:
    return point[0] % P == 0 and (point[1] - point[2]) % P == 0
