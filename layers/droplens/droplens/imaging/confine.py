"""Confinement of a process that decodes untrusted bytes: seccomp and resource limits.

After `confine` it can compute, allocate memory up to a limit, and read and write open descriptors.
It can open no file or socket, start no process or program, and send no signal: a seccomp filter
refuses every other system call with EPERM. With no_new_privs this needs no privilege, and since
filters stack it also works in Lambda, Fargate and SageMaker. Threads are allowed: a decoder's
threads are under the same limits. On systems other than Linux there are the resource limits only.

Source: Linux's Documentation/userspace-api/seccomp_filter.rst and no_new_privs.rst, seccomp(2);
numbers from the kernel's arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h.
"""

import ctypes
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable
from functools import cache
from math import ceil

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_EPERM, _ENOSYS = 1, 38

# The allowed system calls: their numbers on the two architectures below.
_CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "rseq": (334, 293),
    "membarrier": (324, 283),
}
_CLONE = (56, 220)
_CLONE3 = (435, 435)
# AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def warm_up() -> None:
    """Do once, before forking, what would otherwise take time in each fork."""
    if sys.platform == "linux" and platform.machine() in _ARCHITECTURES:
        _function()
        _program(platform.machine())


def die_with_parent() -> None:
    """Have the kernel kill this process once the one that forked it is gone."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit(memory: int, cpu_seconds: float) -> None:
    """Limit this process. memory: bytes above those mapped already; cpu_seconds: CPU time."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:  # noqa: PTH123  no import in a fork
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory,) * 2)
    # SIGPROF ends the process, and is the cause that its parent reads. RLIMIT_CPU has whole
    # seconds only.
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (ceil(cpu_seconds), ceil(cpu_seconds) + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine() -> bool:
    """Refuse this process every system call but those above; False where seccomp is missing."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    program = _program(platform.machine())
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and their address.
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    pointer = ctypes.create_string_buffer(filter_, len(filter_))
    return (
        _prctl(_PR_SET_NO_NEW_PRIVS, 1) == 0
        and _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(pointer)) == 0
    )


def _prctl(option: int, first: int, second: int = 0) -> int:
    return int(_function()(option, first, second, 0, 0))


@cache
def _function() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return call


@cache
def _program(machine: str) -> bytes:
    """The filter as classic BPF, 8 bytes per instruction."""
    column = list(_ARCHITECTURES).index(machine)

    def step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_so, if_not, value)

    steps = [
        step(_LOAD, _ARCHITECTURE_AT),
        step(_EQUAL, _ARCHITECTURES[machine], if_so=1),
        step(_RETURN, _KILL),
        step(_LOAD, _NUMBER_AT),
    ]
    for numbers in _CALLS.values():
        steps += [step(_EQUAL, numbers[column], if_not=1), step(_RETURN, _ALLOW)]
    # clone3: a filter cannot read its flags. On ENOSYS the C library falls back to clone.
    steps += [step(_EQUAL, _CLONE3[column], if_not=1), step(_RETURN, _ERROR | _ENOSYS)]
    steps += [
        step(_EQUAL, _CLONE[column], if_not=3),
        step(_LOAD, _FIRST_ARGUMENT_AT),
        step(_BITS, _CLONE_THREAD, if_not=1),
        step(_RETURN, _ALLOW),
    ]
    steps.append(step(_RETURN, _ERROR | _EPERM))
    return b"".join(steps)
