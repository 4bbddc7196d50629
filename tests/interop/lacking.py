"""Runs a command for which the kernel lacks features: `python lacking.py FEATURE... -- COMMAND...`.

A seccomp filter refuses the system calls by which the features are asked for, as a kernel without them does. It holds
for all that the command starts, whatever language that is written in (seccomp(2), linux/bpf_common.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")

_SYSTEM_CALLS = {
    "x86_64": {"ioctl": 16, "socket": 41, "setsockopt": 54},
    "aarch64": {"ioctl": 29, "socket": 198, "setsockopt": 208},
}
_TUNSETOFFLOAD = 0x400454D0

# By feature: the system call, what its arguments are (by position: an instruction and a value), and the error.
FEATURES = {
    "UDP_SEGMENT": ("setsockopt", {1: (_JUMP_EQUAL, 17), 2: (_JUMP_EQUAL, 103)}, errno.ENOPROTOOPT),
    "UDP_GRO": ("setsockopt", {1: (_JUMP_EQUAL, 17), 2: (_JUMP_EQUAL, 104)}, errno.ENOPROTOOPT),
    "USO": ("ioctl", {1: (_JUMP_EQUAL, _TUNSETOFFLOAD), 2: (_JUMP_ANY, 0x60)}, errno.EINVAL),
    "TSO": ("ioctl", {1: (_JUMP_EQUAL, _TUNSETOFFLOAD), 2: (_JUMP_ANY, 0x7F)}, errno.EINVAL),
    "steering": ("setsockopt", {1: (_JUMP_EQUAL, 1), 2: (_JUMP_EQUAL, 51)}, errno.ENOPROTOOPT),
    "IPv6": ("socket", {0: (_JUMP_EQUAL, 10)}, errno.EAFNOSUPPORT),
}


def command(*features: str) -> list[str]:
    """What to put before a command."""
    return [sys.executable, __file__, *features, "--"]


def _program(features: list[str]) -> bytes:
    numbers = _SYSTEM_CALLS[platform.machine()]
    program = b""
    for feature in features:
        name, arguments, error = FEATURES[feature]
        # A position in struct seccomp_data, and what its low half has to be.
        conditions = [(0, _JUMP_EQUAL, numbers[name])]
        conditions += [(16 + 8 * at, jump, value) for at, (jump, value) in arguments.items()]
        for number, (offset, jump, value) in enumerate(conditions):
            rest = 2 * (len(conditions) - number) - 1
            program += _INSTRUCTION.pack(_LOAD, 0, 0, offset) + _INSTRUCTION.pack(jump, 0, rest, value)
        program += _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | error)
    return program + _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)


def _install(program: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog
    filter_ = struct.pack("HxxxxxxP", len(program) // _INSTRUCTION.size, ctypes.addressof(held))
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    end = sys.argv.index("--")
    _install(_program(sys.argv[1:end]))
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])  # noqa: S606
