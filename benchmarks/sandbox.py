"""The sandbox under attack, and what a run costs.

1,000 hostile programs, several at once, with each mechanism that works here: which got out, and what is left afterwards (processes, files, ports); then
milliseconds a run of an empty program, from one caller, against the interpreter alone.

python benchmarks/sandbox.py [--programs N] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from stepward.engine.sandbox import Limits, Sandbox, SandboxFailed, probe
from stepward.engine.sandbox.inside import tree
from stepward.engine.sandbox.sandbox import MECHANISMS
from stepward.testing.escapes import ESCAPES, Outside, program

LIMITS = Limits(wall_s=1.0, cpu_s=1.0, memory_mb=256)


def processes(token: str) -> set[str]:
    """Processes whose command line holds the token, but for this one."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if token.encode() in Path(f"/proc/{name}/cmdline").read_bytes() and int(name) != os.getpid():
                found.add(name)
        except OSError:
            continue
    return found


def foreign(owner: int) -> bool:
    """Whether a thing of this owner can have come out of a sandbox: root's programs run as users that nobody else is."""
    return owner >= 1_900_000_000 or (os.getuid() != 0 and owner == os.getuid())


def listening() -> set[str]:
    """Internet sockets that programs of ours hold, and the abstract sockets that the escapes bind."""
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and foreign(int(fields[7])):
                found.add(f"{name} {fields[1]}")
    unix = Path("/proc/net/unix").read_text().splitlines()[1:]
    return found | {line.split()[-1] for line in unix if "stepward-escape" in line}


def files() -> set[str]:
    """Entries, of the folders that programs could write in if they got out, that belong to programs of ours or have a name that escapes use."""
    found = set()
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/", "/usr", "/etc", "/run"):
        for entry in os.scandir(folder) if os.path.isdir(folder) else ():
            with suppress(OSError):
                if entry.name == "written" or foreign(entry.stat(follow_symlinks=False).st_uid):
                    found.add(entry.path)
    return found


def attack(box: Sandbox, n: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="escape-target-"))
    folder.chmod(0o755)
    (folder / "secret").write_text("secret")
    token = f"stepward-{os.getpid()}-{box.mechanism}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + token)
        abstract.listen()
        outside = Outside(secret=str(folder / "secret"), folder=str(folder), pid=os.getpid(), port=server.getsockname()[1], abstract=token)
        argument = json.dumps(outside.to_record())
        endings: Counter[str] = Counter()
        escaped: list[str] = []

        async def one(name: str) -> None:
            try:
                run = await box.run([box.python, "-I", "-S", "-B", "-c", program(name), argument], limits=LIMITS, collect=("*.txt",))
            except SandboxFailed as error:
                endings[f"failed: {error}"] += 1
                return
            endings[run.ending] += 1
            if b"ESCAPED" in run.out:
                escaped.append(f"{name}: {run.out.decode('utf-8', 'replace')[:200]}")

        async def all_of_them() -> None:
            names = islice(cycle(ESCAPES), n)
            gate = asyncio.Semaphore(64)

            async def gated(name: str) -> None:
                async with gate:
                    await one(name)

            await asyncio.gather(*map(gated, names))

        box.run_sync([box.python, "-I", "-S", "-c", "pass"])  # the keeper and its folder are there before the first look
        before = (listening(), files())
        begin = time.perf_counter()
        asyncio.run(all_of_them())
        seconds = time.perf_counter() - begin
        deadline = time.monotonic() + 10.0
        while tree.descendants(box.keeper_pid or 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        left = {
            "processes": sorted(processes(token)),
            "children_of_the_keeper": tree.descendants(box.keeper_pid or 0),
            "ports": sorted(listening() - before[0]),
            "files": sorted(files() - before[1]),
            "folders_of_runs": [str(path) for path in Path(box._keeper._process.folder).iterdir()] if box._keeper._process else ["the keeper died"],
            "target_changed": sorted(path.name for path in folder.iterdir()) != ["secret"] or (folder / "secret").read_text() != "secret",
        }
    (folder / "secret").unlink()
    folder.rmdir()
    return {"programs": n, "seconds": round(seconds, 1), "escaped": escaped, "left": left, "endings": dict(endings.most_common())}


def timed(box: Sandbox, runs: int) -> dict[str, float]:
    """Milliseconds a run, one after the other; beside it the interpreter without any sandbox."""
    argv = [box.python, "-I", "-S", "-B", "-c", "pass"]
    walls: dict[str, list[float]] = {"sandbox": [], "plain": []}
    for _ in range(runs):
        begin = time.perf_counter()
        box.run_sync(argv)
        walls["sandbox"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        subprocess.run(argv, check=True)
        walls["plain"].append(time.perf_counter() - begin)
    return {f"{name}_ms_{what}": round(1000 * of(values), 1) for name, values in walls.items() for what, of in (("median", statistics.median), ("best", min))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1000, help="hostile programs with each mechanism")
    parser.add_argument("--runs", type=int, default=100, help="empty programs to time")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report: dict[str, Any] = {"kernel": platform.release(), "cores": len(os.sched_getaffinity(0)), "uid": os.getuid()}
    for mechanism in MECHANISMS:
        finding = probe(mechanism)
        if not finding.works:
            report[mechanism] = {"refused": finding.reason}
            continue
        with Sandbox(mechanism, python=finding.python, concurrency=8) as box:
            report[mechanism] = {"speed": timed(box, args.runs), "attack": attack(box, args.programs)}
    if args.json:
        print(json.dumps(report, indent=1))
        return
    for mechanism in MECHANISMS:
        found = report[mechanism]
        if "refused" in found:
            print(f"{mechanism}: refused ({found['refused']})")
            continue
        print(f"{mechanism}: {found['speed']}")
        print(f"  {found['attack']['programs']} hostile programs in {found['attack']['seconds']} s; escaped: {found['attack']['escaped'] or 'none'}")
        print(f"  left behind: {found['attack']['left']}")
        print(f"  endings: {found['attack']['endings']}")


if __name__ == "__main__":
    main()
