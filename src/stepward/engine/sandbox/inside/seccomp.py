"""The system-call filter of untrusted programs: what no program needs and escapes are made of is refused, and so is every call newer than those reviewed."""

from __future__ import annotations

import ctypes

from stepward.engine.sandbox.inside.system import ARCHITECTURES, CLONE_THREAD, MACHINE, NAMESPACE_FLAGS, call

# name: (x86-64, 64-bit Arm); None where the architecture has no such call.
Numbers = dict[str, tuple[int | None, int | None]]

_REFUSED: Numbers = {
    # other processes' memory and descriptors
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "move_pages": (279, 239), "migrate_pages": (256, 238),
    # mounts, roots and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242),
    # large kernel interfaces
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "vmsplice": (278, 75),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "lookup_dcookie": (212, 18), "map_shadow_stack": (453, 453),
    # memory that outlives a process or that no limit counts
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "mbind": (237, 235), "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    # the machine itself
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "create_module": (174, None), "get_kernel_syms": (177, None), "query_module": (178, None), "nfsservctl": (180, 42), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58),
    "personality": (135, 92), "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None), "mknod": (133, None),
    "mknodat": (259, 33),
}  # fmt: skip
_REFUSED_WITHOUT_OWN_FILES: Numbers = {  # Landlock rules on contents, not on owners, modes, times, attributes or watches
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None),
    "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "inotify_add_watch": (254, 27), "ioprio_set": (251, 30),
}  # fmt: skip
_ONLY_ITSELF: Numbers = {  # first argument must be 0: limits, priorities and processors of other processes of the same user
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
_SIGNALS: Numbers = {  # refused where signals are not kept inside: all but kill and tgkill, and leaving the process group that is killed in the end
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "setsid": (112, 157),
    "setpgid": (109, 154),
}  # fmt: skip
_OTHERS: Numbers = {
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435, 435), "socketpair": (53, 199), "ioctl": (16, 29), "fcntl": (72, 25),
    "kill": (62, 129), "tgkill": (234, 131), "setpriority": (141, 140),
}  # fmt: skip
_NEWEST_REVIEWED = 462  # mseal, Linux 6.10

_LOAD, _EQUAL, _GREATER, _SET, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JMP|JGT|K, JMP|JSET|K, ALU|AND|K, RET|K
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_AF_UNIX, _SOCK_STREAM, _TIOCSTI, _TIOCLINUX, _F_SETOWN, _F_SETOWN_EX = 1, 1, 0x5412, 0x541C, 8, 15
_SET_MODE_FILTER = 1


class _Program:
    """Instructions as (code, jump if true, jump if false, constant)."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, int, int, int]] = []

    def add(self, code: int, constant: int, true: int = 0, false: int = 0) -> None:
        self.lines.append((code, true, false, constant))

    def refuse(self, number: int, error: int = _EPERM) -> None:
        self.add(_EQUAL, number, 0, 1)
        self.add(_RETURN, _ERROR | error)

    def rule(self, number: int, body: list[tuple[int, int, int, int]]) -> None:
        """When the call is `number`, run `body`, which returns."""
        self.add(_EQUAL, number, 0, len(body))
        self.lines += body


def _argument(index: int) -> tuple[int, int, int, int]:
    return _LOAD, 0, 0, 16 + 8 * index  # its low 32 bits


def _returns(action: int) -> tuple[int, int, int, int]:
    return _RETURN, 0, 0, action


_NO, _YES = _returns(_ERROR | _EPERM), _returns(_ALLOW)


def install(*, own_files: bool, processes: bool, own_signals: bool, pid: int) -> None:
    """Filter this process and all that it will start.

    `own_files`: it sees only files of its own, so their owners and modes are its to change. `processes`: it may start some. `own_signals`: nothing but its
    own processes can be reached by signals; where that is not so it may signal nothing but its first process (`pid`) and its process group, which it cannot
    leave.

    Raises: OSError when the kernel has no seccomp filters or the machine is another than x86-64 and 64-bit Arm.
    """
    instructions = _build(own_files=own_files, processes=processes, own_signals=own_signals, pid=pid)
    encoded = b"".join(code.to_bytes(2, "little") + bytes([true, false]) + constant.to_bytes(4, "little") for code, true, false, constant in instructions)
    code = ctypes.create_string_buffer(encoded, len(encoded))
    program = ctypes.create_string_buffer(len(instructions).to_bytes(8, "little") + ctypes.addressof(code).to_bytes(8, "little"), 16)
    call("seccomp", _SET_MODE_FILTER, 0, program)


def _build(*, own_files: bool, processes: bool, own_signals: bool, pid: int) -> list[tuple[int, int, int, int]]:
    if MACHINE not in ARCHITECTURES:
        raise OSError(f"no system-call filter for {MACHINE}")
    column = list(ARCHITECTURES).index(MACHINE)
    program = _Program()
    program.add(_LOAD, _ARCHITECTURE_AT)
    program.add(_EQUAL, ARCHITECTURES[MACHINE], 1, 0)
    program.add(_RETURN, _KILL)
    program.add(_LOAD, _NUMBER_AT)
    program.add(_GREATER, _NEWEST_REVIEWED, 0, 1)
    program.add(_RETURN, _ERROR | _ENOSYS)
    refused = _REFUSED if own_files else _REFUSED | _REFUSED_WITHOUT_OWN_FILES
    if not own_signals:
        refused = refused | _SIGNALS
    for numbers in refused.values():
        if (number := numbers[column]) is not None:
            program.refuse(number)
    others = {name: numbers[column] for name, numbers in _OTHERS.items()}

    def rule(name: str, *body: tuple[int, int, int, int]) -> None:
        if (number := others[name]) is not None:
            program.rule(number, list(body))

    rule("clone3", _returns(_ERROR | _ENOSYS))  # its flags lie in memory, where a filter cannot look; the C library falls back on clone
    flags_ok: list[tuple[int, int, int, int]] = [_argument(0), (_SET, 0, 1, NAMESPACE_FLAGS & ~0xFF), _NO]
    rule("clone", *flags_ok, *([] if processes else [(_SET, 1, 0, CLONE_THREAD), _NO]), _YES)
    if not processes:
        rule("fork", _NO)
        rule("vfork", _NO)
    stream: list[tuple[int, int, int, int]] = [_argument(0), (_EQUAL, 1, 0, _AF_UNIX), _NO, _argument(1), (_AND, 0, 0, 0xF), (_EQUAL, 1, 0, _SOCK_STREAM), _NO]
    rule("socketpair", *stream, _YES)
    rule("ioctl", _argument(1), (_EQUAL, 0, 1, _TIOCSTI), _NO, (_EQUAL, 0, 1, _TIOCLINUX), _NO, _YES)
    rule("fcntl", _argument(1), (_EQUAL, 0, 1, _F_SETOWN), _NO, (_EQUAL, 0, 1, _F_SETOWN_EX), _NO, _YES)
    if not own_signals:
        rule("kill", _argument(0), (_EQUAL, 2, 0, pid), (_EQUAL, 1, 0, 0), _NO, _YES)  # 0: its own process group
        rule("tgkill", _argument(0), (_EQUAL, 1, 0, pid), _NO, _YES)
    if not own_files:
        for numbers in _ONLY_ITSELF.values():
            if (number := numbers[column]) is not None:
                program.rule(number, [_argument(0), (_EQUAL, 1, 0, 0), _NO, _YES])
        rule("setpriority", _argument(1), (_EQUAL, 1, 0, 0), _NO, _YES)
    program.add(_RETURN, _ALLOW)
    return program.lines
