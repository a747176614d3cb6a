"""Landlock: this process gives up the file system, TCP, and reaching other processes.

Three system calls of the kernel's stable interface (``landlock(7)``), the same on every
architecture; the packages on PyPI are younger than it, or no release yet. On a kernel without it
nothing is given up, and the rest of the lock-down holds.
"""

import ctypes
import errno
import os
import struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3

# what each version of the interface handles: rights on files, on TCP, and scopes
_FILES = ((1, 13), (2, 14), (3, 15), (5, 16))
_NETWORK_FROM, _NETWORK = 4, 0b11
_SCOPES_FROM, _SCOPES = 6, 0b11


def give_up(folder: int | None, file: int) -> int:
    """Give up everything that Landlock knows, but for reading one file, and beneath one folder.

    Args:
        folder: An open descriptor of that folder; None = none.
        file: One of that file, open for reading; one in memory needs no leave.

    Returns:
        The version of the kernel's interface; 0 = it has none, and nothing was given up.

    Raises:
        OSError: The kernel has it and refused.
    """
    version = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return 0
    bits = next(bits for since, bits in reversed(_FILES) if version >= since)
    rights = [(1 << bits) - 1]
    if version >= _NETWORK_FROM:
        rights.append(_NETWORK)
    if version >= _SCOPES_FROM:
        rights.append(_SCOPES)
    asked = struct.pack(f"={len(rights)}Q", *rights)
    rules = _checked(_LIBC.syscall(_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0))
    try:
        if folder is not None:
            _allow(rules, _READ_FILE | _READ_DIR, folder)
        try:
            _allow(rules, _READ_FILE, file)
        except OSError as error:
            if error.errno != errno.EBADFD:  # in memory
                raise
        _checked(_LIBC.syscall(_RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)
    return int(version)


def _allow(rules: int, rights: int, descriptor: int) -> None:
    rule = struct.pack("=Qi", rights, descriptor)
    _checked(_LIBC.syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
