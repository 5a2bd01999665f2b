"""The system-call filter, instruction by instruction: what it answers to each call, on both architectures, by an interpreter of the filter's language."""

from __future__ import annotations

import errno

import pytest

from stepward.engine.sandbox.inside import seccomp, system

ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
COLUMN = {"x86_64": 0, "aarch64": 1}
ALLOWED = {"read": (0, 63), "write": (1, 64), "mmap": (9, 222), "execve": (59, 221), "openat": (257, 56), "futex": (202, 98), "exit_group": (231, 94)}
FORK, THREAD = 17, 0x50F00  # flags of clone: a child with SIGCHLD; what the C library gives for a thread


def answer(lines: list[tuple[int, int, int, int]], architecture: int, number: int, *arguments: int) -> int:
    """Run a filter on one call."""
    data = [number, architecture, 0, 0]
    for argument in [*arguments, 0, 0, 0, 0, 0, 0][:6]:
        data += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
    at = register = 0
    while True:
        code, true, false, constant = lines[at]
        at += 1
        if code == 0x20:
            register = data[constant // 4]
        elif code == 0x54:
            register &= constant
        elif code == 0x06:
            return constant
        else:
            holds = {0x15: register == constant, 0x25: register > constant, 0x45: bool(register & constant)}[code]
            at += true if holds else false


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(seccomp, "MACHINE", request.param)
    return str(request.param)


def ask(machine: str, name: str, *arguments: int, own: bool = True, processes: bool = True) -> int:
    tables = [seccomp._REFUSED, seccomp._REFUSED_WITHOUT_OWN_FILES, seccomp._ONLY_ITSELF, seccomp._SIGNALS, seccomp._OTHERS, ALLOWED]
    number = next(table[name][COLUMN[machine]] for table in tables if name in table)
    assert number is not None
    lines = seccomp._build(own_files=own, processes=processes, own_signals=own, pid=77)
    return answer(lines, system.ARCHITECTURES[machine], number, *arguments)


def test_ordinary_calls_pass_and_dangerous_ones_do_not(machine: str) -> None:
    assert {ask(machine, name) for name in ALLOWED} == {ALLOW}
    for name, numbers in seccomp._REFUSED.items():
        if numbers[COLUMN[machine]] is not None:
            assert ask(machine, name) == REFUSED, name
    for name, numbers in seccomp._REFUSED_WITHOUT_OWN_FILES.items():
        if numbers[COLUMN[machine]] is not None:
            assert (ask(machine, name), ask(machine, name, own=False)) == (ALLOW, REFUSED), name


def test_other_architectures_are_killed_and_newer_calls_unknown(machine: str) -> None:
    lines = seccomp._build(own_files=True, processes=True, own_signals=True, pid=77)
    other = next(code for name, code in system.ARCHITECTURES.items() if name != machine)
    assert answer(lines, other, 0) == KILL
    assert answer(lines, 0x40000003, 0) == KILL  # 32-bit x86
    for number in (463, 600, 0x40000000, 0xFFFFFFFF):
        assert answer(lines, system.ARCHITECTURES[machine], number) == UNKNOWN


def test_processes_threads_and_namespaces(machine: str) -> None:
    assert ask(machine, "clone3") == UNKNOWN
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(machine, "clone", flag | FORK) == REFUSED
    assert (ask(machine, "clone", FORK), ask(machine, "clone", THREAD)) == (ALLOW, ALLOW)
    assert (ask(machine, "clone", FORK, processes=False), ask(machine, "clone", THREAD, processes=False)) == (REFUSED, ALLOW)


def test_only_connected_streams_of_sockets(machine: str) -> None:
    stream, flags = 1, 0o2004000  # SOCK_NONBLOCK and SOCK_CLOEXEC
    assert ask(machine, "socketpair", 1, stream) == ask(machine, "socketpair", 1, stream | flags) == ALLOW
    assert ask(machine, "socketpair", 1, 2) == ask(machine, "socketpair", 1, 5 | flags) == ask(machine, "socketpair", 2, stream) == REFUSED


def test_signals_and_limits_of_others_where_nothing_else_keeps_them_in(machine: str) -> None:
    assert ask(machine, "kill", 1) == ALLOW
    assert ask(machine, "kill", 77, own=False) == ask(machine, "kill", 0, own=False) == ask(machine, "tgkill", 77, own=False) == ALLOW
    for pid in (1, 76, 0xFFFFFFFF, 0xFFFFFFFF - 76):
        assert ask(machine, "kill", pid, own=False) == ask(machine, "tgkill", pid, own=False) == REFUSED
    assert ask(machine, "setsid", own=False) == ask(machine, "setpgid", own=False) == REFUSED
    for name in seccomp._ONLY_ITSELF:
        assert (ask(machine, name, 0, own=False), ask(machine, name, 5, own=False)) == (ALLOW, REFUSED)
    assert (ask(machine, "setpriority", 0, 0, own=False), ask(machine, "setpriority", 0, 5, own=False)) == (ALLOW, REFUSED)


def test_typing_into_terminals_and_owning_files_of_others(machine: str) -> None:
    assert ask(machine, "ioctl", 0, 0x5412) == ask(machine, "ioctl", 0, 0x541C) == ask(machine, "fcntl", 0, 8) == ask(machine, "fcntl", 0, 15) == REFUSED
    assert ask(machine, "ioctl", 0, 0x5401) == ask(machine, "fcntl", 0, 1) == ALLOW


def test_no_filter_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "MACHINE", "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        seccomp._build(own_files=True, processes=True, own_signals=True, pid=1)
