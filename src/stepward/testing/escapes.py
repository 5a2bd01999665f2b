"""Escapes: programs that try to get out of a sandbox, or to stay. Public, so that other mechanisms can be put to the same test.

Each is Python that prints `ESCAPED what` where it succeeds. Its arguments are JSON with the fields of `Outside`. What it must leave behind is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_HEAD = """
import ctypes, errno, json, os, signal, socket, sys, threading, time, mmap
OUT = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, action, *arguments):
    try:
        result = action(*arguments)
    except (Exception, SystemExit):
        return
    print("ESCAPED", name, repr(result)[:80], flush=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        print("ESCAPED", name, result, errno.errorcode.get(ctypes.get_errno()), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What the programs aim at: a secret file and a folder of the caller, its process, a TCP port and an abstract socket on which it listens."""

    secret: str
    folder: str
    pid: int
    port: int
    abstract: str

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def program(name: str) -> str:
    """The program of an escape."""
    return _HEAD + ESCAPES[name]


ESCAPES: Mapping[str, str] = {
    "fork bomb": """
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "fork bomb of short lives": """
while True:
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        pass
""",
    "thread bomb": """
threads = []
try:
    while len(threads) < 5000:
        threads.append(threading.Thread(target=time.sleep, args=(100,), daemon=True))
        threads[-1].start()
except RuntimeError:
    pass
print("ESCAPED" if len(threads) > 1000 else "stopped at", len(threads), flush=True)
os._exit(0)
""",
    "memory bomb": """
held = []
while True:
    held.append(bytearray(1 << 24))
""",
    "memory bomb of many processes": """
for _ in range(6):
    try:
        if os.fork() == 0:
            break
    except OSError:
        pass
held = mmap.mmap(-1, 150 << 20, flags=mmap.MAP_PRIVATE)
for start in range(0, len(held), 4096):
    held[start] = 1
time.sleep(100)
""",
    "shared memory bomb": """
for _ in range(6):
    try:
        if os.fork() == 0:
            break
    except OSError:
        pass
shared = mmap.mmap(-1, 150 << 20)
for start in range(0, len(shared), 4096):
    shared[start] = 1
time.sleep(100)
""",
    "network": """
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, getattr(socket, "AF_NETLINK", 16), getattr(socket, "AF_PACKET", 17), 40):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        attempt(f"socket {family} {kind}", socket.socket, family, kind)
attempt("connection", socket.create_connection, ("127.0.0.1", OUT["port"]), 1)
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    attempt("datagram pair", socket.socketpair, socket.AF_UNIX, kind)
one, two = socket.socketpair()
attempt("abstract socket", one.connect, "\\0" + OUT["abstract"])
attempt("bound socket", one.bind, "\\0stepward-escape")
attempt("listening", one.listen)
""",
    "open port": """
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
print("ESCAPED listening", server.getsockname(), flush=True)
if os.fork() == 0:
    time.sleep(100)
""",
    "reading outside": """
for path in (OUT["secret"], "/etc/shadow", "/etc/hostname", "/proc/1/environ", "/proc/self/environ", f"/proc/{OUT['pid']}/environ", "/proc/meminfo",
             f"/proc/{OUT['pid']}/mem", "/sys/kernel/uevent_seqnum", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/tty", "/root/.bashrc"):
    attempt("reading " + path, lambda: open(path, "rb").read(1))
for path in (OUT["folder"], "/proc", "/sys", "/home", "/run", "/var", os.path.dirname(OUT["secret"])):
    attempt("listing " + path, lambda: os.listdir(path)[0])
os.symlink(OUT["secret"], "link")
attempt("reading through a link", lambda: open("link").read())
attempt("hard link", os.link, OUT["secret"], "hard")
attempt("climbing", lambda: open("../../../../../../../.." + OUT["secret"]).read())
if set(os.environ) - set("PATH HOME LANG LC_CTYPE PYTHONHASHSEED PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS OPENBLAS_NUM_THREADS".split()):
    print("ESCAPED environment", dict(os.environ), flush=True)
for fd in range(3, 64):
    attempt(f"descriptor {fd}", os.fstat, fd)
""",
    "writing outside": """
for path in (OUT["folder"] + "/written", "/usr/written", "/etc/written", "/written", "/dev/written", "/var/tmp/written",
             os.path.dirname(os.__file__) + "/written", "/dev/shm/written", "/run/written"):
    attempt("writing " + path, lambda: open(path, "w").write("x"))
    attempt("folder " + path, os.mkdir, path)
    attempt("link " + path, os.symlink, "x", path)
for path in (OUT["secret"], os.__file__, "/etc/passwd"):
    attempt("appending " + path, lambda: open(path, "a"))
    attempt("cutting " + path, os.truncate, path, 0)
    attempt("cutting open " + path, os.open, path, os.O_RDONLY | os.O_TRUNC)
    attempt("removing " + path, os.unlink, path)
    attempt("renaming " + path, os.rename, path, path + "x")
    attempt("mode of " + path, os.chmod, path, 0o666)
    attempt("owner of " + path, os.chown, path, os.getuid(), -1) if os.getuid() else None
    attempt("times of " + path, os.utime, path, (0, 0))
    attempt("attribute of " + path, os.setxattr, path, "user.x", b"x")
attempt("device", os.mknod, "device", 0o20666, os.makedev(1, 1))
attempt("disk", os.mknod, "disk", 0o60666, os.makedev(254, 0))
""",
    "signals": """
for pid in (OUT["pid"], os.getppid(), 1):
    for number in (0, signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        if pid == OUT["pid"]:
            attempt(f"signal {number} to the caller", os.kill, pid, number)
        else:
            try:
                os.kill(pid, number)
            except OSError:
                pass
for number in range(1, 65):
    try:
        os.kill(os.getppid(), number)
    except OSError:
        pass
signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    os.kill(-1, signal.SIGTERM)
except OSError:
    pass
attempt("limits of the caller", lambda: __import__("resource").prlimit(OUT["pid"], 0, (1, 1)))
attempt("priority of the caller", os.setpriority, os.PRIO_PROCESS, OUT["pid"], 19)
attempt("processors of the caller", os.sched_setaffinity, OUT["pid"], {0})
print("still here", flush=True)
""",
    "output without end": """
while True:
    os.write(1, b"x" * 65536)
""",
    "errors without end": """
while True:
    os.write(2, b"x" * 65536)
""",
    "output of a child without end": """
if os.fork():
    while True:
        os.write(1, b"y" * 65536)
while True:
    os.write(1, b"x" * 65536)
""",
    "links to collect": """
os.symlink(OUT["secret"], "found.txt")
os.symlink(os.path.dirname(OUT["secret"]), "folder")
os.symlink("/", "root")
os.symlink("loop", "loop")
try:
    os.mkfifo("pipe")
except OSError:
    pass
open("real.txt", "w").write("real")
os.mkdir("inner")
os.symlink("/etc/passwd", "inner/passwd")
""",
    "tracing": """
for pid in (OUT["pid"], os.getppid(), 1):
    for request in (16, 0x4206):
        ctypes.set_errno(0)
        if libc.ptrace(request, pid, 0, 0) == 0:
            print("ESCAPED ptrace", pid, flush=True)
    buffer = ctypes.create_string_buffer(64)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    for name in ("process_vm_readv", "process_vm_writev"):
        if getattr(libc, name)(pid, vector, 1, vector, 1, 0) >= 0:
            print("ESCAPED", name, pid, flush=True)
    attempt("memory of another", open, f"/proc/{pid}/mem", "rb")
""",
    "system calls": """
numbers = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
for name, pair in {"mount": (165, 40), "umount": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "io_uring": (425, 425), "keyctl": (250, 219), "add_key": (248, 217), "userfaultfd": (323, 282), "perf": (298, 241),
    "kexec": (246, 104), "init_module": (175, 105), "finit_module": (313, 273), "reboot": (169, 142), "open_tree": (428, 428), "fsopen": (430, 430),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "memfd": (319, 279), "memfd_secret": (447, 447),
    "pidfd_getfd": (438, 438), "clone3": (435, 435), "personality": (135, 92), "syslog": (103, 116), "open_by_handle": (304, 265), "fanotify": (300, 262),
    "acct": (163, 89), "swapon": (167, 224), "settimeofday": (164, 170), "sethostname": (170, 161), "quotactl": (179, 60), "kcmp": (312, 272),
    "socket": (41, 198), "newer than reviewed": (467, 467), "far newer": (5000, 5000), "negative": (-2, -2)}.items():
    call(name, pair[numbers], 0, 0, 0, 0, 0, 0)
for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
    call(f"clone {flag:#x}", (56, 220)[numbers], flag | 17, 0, 0, 0, 0)
attempt("becoming root", os.setuid, 0) if os.getuid() else None
attempt("chroot", os.chroot, ".")
""",
    "other calling convention": """
if os.uname().machine == "x86_64":  # 32-bit system calls have other numbers: 20 is getpid there
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex("b814000000cd80c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    print("ESCAPED i386 call", ctypes.CFUNCTYPE(ctypes.c_int)(address)(), flush=True)
""",
    "x32 calling convention": """
if os.uname().machine == "x86_64":
    call("x32 getpid", 0x40000000 + 39)
    call("x32 ptrace", 0x40000000 + 521, 0, 0, 0, 0)
""",
    "endless loop": """
while True:
    pass
""",
    "endless sleep": """
time.sleep(1000)
""",
    "endless loop that hears no signal": """
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True:
    pass
""",
    "daemon": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("daemon", "w").write(str(os.getpid()))
        while True:
            time.sleep(1)
    os._exit(0)
time.sleep(0.05)
print("done", flush=True)
os._exit(0)
""",
    "daemon without streams": """
if os.fork() == 0:
    os.setsid()
    for fd in (0, 1, 2):
        os.close(fd)
    if os.fork() == 0:
        while True:
            time.sleep(1)
os._exit(0)
""",
    "stopped children": """
for _ in range(5):
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(100)
os.kill(os.getpid(), signal.SIGSTOP)
""",
    "zombies": """
for _ in range(200):
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError:
        pass
print("done", flush=True)
""",
    "one large file": """
with open("large", "wb") as file:
    while True:
        file.write(b"x" * (1 << 20))
        file.flush()
""",
    "many large files": """
number = 0
while True:
    number += 1
    with open(f"file{number}", "wb") as file:
        file.write(b"x" * (1 << 20))
""",
    "many files": """
number = 0
while True:
    number += 1
    open(f"file{number}", "w").close()
""",
    "deep folders": """
while True:
    os.mkdir("d")
    os.chdir("d")
""",
    "files that cannot be removed": """
os.mkdir("a")
os.mkdir("a/b")
open("a/b/c", "w").write("x")
try:
    os.chmod("a/b", 0)
    os.chmod("a", 0)
except OSError:
    pass
os.umask(0o777)
os.mkdir("shut")
""",
    "many descriptors": """
held = []
try:
    while len(held) < 10000:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print("ESCAPED" if len(held) > 1000 else "stopped at", len(held), flush=True)
""",
    "pipes full of memory": """
held = []
try:
    while True:
        reading, writing = os.pipe()
        held.append((reading, writing))
        os.set_blocking(writing, False)
        import fcntl
        try:
            fcntl.fcntl(writing, 1031, 1 << 20)
        except OSError:
            pass
        try:
            while True:
                os.write(writing, b"x" * 65536)
        except BlockingIOError:
            pass
except OSError:
    pass
print("pipes", len(held), flush=True)
""",
    "deep recursion": """
sys.setrecursionlimit(1 << 30)
def deeper(value):
    return [deeper([value])]
deeper(0)
""",
    "crash": """
ctypes.string_at(0)
""",
    "exit that looks like success": """
print("all tests passed", flush=True)
os._exit(0)
""",
    "killing the warden": """
for _ in range(100):
    for pid in (os.getppid(), 1, 2):
        if pid != os.getpid():
            for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
print("still here", flush=True)
""",
    "broken interpreter": """
os.execv("/dev/null", ["null"])
""",
}

ENDED_BY = {
    "fork bomb": {"processor time", "wall time", "processes"},
    "memory bomb": {"out of memory"},
    "memory bomb of many processes": {"memory"},
    "shared memory bomb": {"memory"},
    "output without end": {"output"},
    "errors without end": {"output"},
    "output of a child without end": {"output"},
    "endless loop": {"processor time", "wall time"},
    "endless sleep": {"wall time"},
    "endless loop that hears no signal": {"processor time", "wall time"},
    "stopped children": {"wall time"},
}
"""What ends an escape where programs may start processes, by name; the others end by themselves or by any limit."""
