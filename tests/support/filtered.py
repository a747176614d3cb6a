"""Runs a command under a seccomp filter, as the service manager would: ``NAME,… COMMAND…``.

What is not named is refused with EPERM. libseccomp is the service manager's own.
"""

import ctypes
import os
import sys

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_PR_SET_NO_NEW_PRIVS = 38
_UNKNOWN = -1


def _main(names: str, *command: str) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(_REFUSE))
    for name in names.split(","):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number > _UNKNOWN:  # others are of other machines, or of later kernels
            _checked(seccomp.seccomp_rule_add(rules, _ALLOW, number, 0))
    _checked(ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(seccomp.seccomp_load(rules))
    os.execv(command[0], command)  # noqa: S606  # what this is for


def _checked(result: int) -> None:
    if result < 0:
        message = f"seccomp: {os.strerror(-result)}"
        raise OSError(-result, message)


if __name__ == "__main__":
    _main(*sys.argv[1:])
