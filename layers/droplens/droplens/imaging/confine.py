"""What a process gives up before it looks at a stranger's bytes. Linux; elsewhere less.

After `confine` it can compute, take memory up to a limit, and read and write what is open already.
It can open no file, no socket and no process, signal none, and run no program: a kernel filter
(seccomp) refuses every other system call with EPERM, which needs no privilege once the process has
given up gaining any. That holds in Lambda, Fargate and SageMaker as well as here, since filters
may be stacked. Threads are let be: a decoder's worker is inside the same limits.

Source: Linux's Documentation/userspace-api/seccomp_filter.rst and no_new_privs.rst, seccomp(2);
numbers from the kernel's arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h.
"""

import ctypes
import platform
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_EPERM, _ENOSYS = 1, 38

# Audit architecture; then read, write, close, fstat, lseek, mmap, mprotect, munmap, brk,
# rt_sigaction, rt_sigprocmask, rt_sigreturn, readv, writev, sched_yield, mremap, madvise,
# nanosleep, getpid, exit, gettimeofday, getrusage, gettid, futex, sched_getaffinity,
# clock_gettime, clock_nanosleep, exit_group, set_robust_list, getrandom, rseq, membarrier;
# clone; clone3.
_CALLS = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 19, 20, 24, 25, 28, 35, 39, 60, 96, 98, 186)
        + (202, 204, 228, 230, 231, 273, 318, 334, 324),
        56,
        435,
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 65, 66, 124, 216, 233, 101, 172)
        + (93, 169, 165, 178, 98, 123, 113, 115, 94, 99, 278, 293, 283),
        220,
        435,
    ),
}


def die_with_parent() -> None:
    """Have the kernel kill this process once the one that forked it is gone."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit(memory: int, cpu_seconds: int) -> None:
    """memory: bytes above what this process has mapped already."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:  # noqa: PTH123  no import in a fork
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory,) * 2)
    # At the soft limit comes SIGXCPU, which tells why; a second later the kernel kills.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine() -> bool:
    """Give up every system call but those above; False where this system has no such filter."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    program = _program(*_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count of instructions, and where they are.
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    pointer = ctypes.create_string_buffer(filter_, len(filter_))
    return (
        _prctl(_PR_SET_NO_NEW_PRIVS, 1) == 0
        and _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(pointer)) == 0
    )


def _prctl(option: int, first: int, second: int = 0) -> int:
    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return int(call(option, first, second, 0, 0))


def _program(architecture: int, allowed: tuple[int, ...], clone: int, clone3: int) -> bytes:
    """The filter in the kernel's classic BPF: an instruction has 8 bytes."""

    def step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_so, if_not, value)

    steps = [
        step(_LOAD, _ARCHITECTURE_AT),
        step(_EQUAL, architecture, if_so=1),
        step(_RETURN, _KILL),
        step(_LOAD, _NUMBER_AT),
    ]
    for number in allowed:
        steps += [step(_EQUAL, number, if_not=1), step(_RETURN, _ALLOW)]
    # Its flags cannot be read by a filter; the C library then tries clone.
    steps += [step(_EQUAL, clone3, if_not=1), step(_RETURN, _ERROR | _ENOSYS)]
    steps += [
        step(_EQUAL, clone, if_not=3),
        step(_LOAD, _FIRST_ARGUMENT_AT),
        step(_BITS, _CLONE_THREAD, if_not=1),
        step(_RETURN, _ALLOW),
    ]
    steps.append(step(_RETURN, _ERROR | _EPERM))
    return b"".join(steps)
