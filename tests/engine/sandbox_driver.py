"""Runs every escape in the sandbox and prints what became of it, as JSON. Started by the tests as root and as an ordinary user; needs no packages.

Arguments: source folder, mechanism ("best" for what best_sandbox chooses), JSON list of escapes to leave out.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
import types
from pathlib import Path


def import_light(source: str) -> None:
    """Make stepward.engine.sandbox importable without the packages that stepward depends on."""
    for name in ("stepward", "stepward.core", "stepward.engine", "stepward.testing"):
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = [f"{source}/{name.replace('.', '/')}"]


def processes(token: str) -> list[str]:
    """Processes whose command line holds the token."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if token.encode() in line and int(name) != os.getpid():
            found.append(f"{name}: {line[-60:]!r}")
    return found


def descendants(root: int) -> list[int]:
    from stepward.engine.sandbox.inside import tree

    return tree.descendants(root)


async def main(mechanism: str, left_out: list[str]) -> dict:
    from stepward.engine.sandbox import Limits, NoSandbox, Sandbox, SandboxFailed, best_sandbox, probe
    from stepward.testing.escapes import ENDED_BY, ESCAPES, Outside, program

    folder = Path(tempfile.mkdtemp(prefix="escape-target-"))
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_text("secret")
    os.environ["STEPWARD_SECRET"] = "secret"
    server = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    name = f"stepward-{os.getpid()}"
    abstract.bind("\0" + name)
    abstract.listen()
    outside = Outside(secret=str(secret), folder=str(folder), pid=os.getpid(), port=server.getsockname()[1], abstract=name)
    try:
        finding = None if mechanism == "best" else probe(mechanism)
        if finding is not None and not finding.works:
            return {"refused": finding.reason}
        box = best_sandbox(concurrency=6) if finding is None else Sandbox(mechanism, python=finding.python, concurrency=6, processes=finding.processes)
    except NoSandbox as error:
        return {"refused": str(error)}
    may_fork = probe(box.mechanism).processes

    def limits(name: str) -> Limits:
        """Time on the clock ends only what nothing else ends, so that a busy machine changes no result."""
        waits = "wall time" in ENDED_BY.get(name, ()) or (name in ENDED_BY and not may_fork)
        return Limits(wall_s=2.0 if waits else 60.0, cpu_s=1.0, memory_mb=256)

    argument = json.dumps(outside.to_record())

    async def one(name: str) -> dict:
        try:
            run = await box.run([box.python, "-I", "-S", "-B", "-c", program(name), argument], limits=limits(name), collect=("*.txt", "*/passwd"))
        except SandboxFailed as error:
            return {"failed": str(error)}
        return {
            "out": run.out.decode("utf-8", "replace")[:4000],
            "err": run.err.decode("utf-8", "replace")[-500:],
            "ended": "out of memory" if run.ended is None and run.out_of_memory else run.ended,
            "ending": run.ending,
            "wall_s": run.wall_s,
            "files": {name: content.decode("utf-8", "replace") for name, content in run.files.items()},
        }

    names = [name for name in ESCAPES if name not in left_out]
    results = dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
    keeper = box.keeper_pid
    deadline = time.monotonic() + 5.0
    while keeper and descendants(keeper) and time.monotonic() < deadline:
        time.sleep(0.01)
    left = {"processes": processes(name), "children": descendants(keeper) if keeper else ["the keeper died"]}
    work = Path(box._keeper._process.folder)
    left["folders"] = [str(path) for path in work.iterdir()]
    box.close()
    left |= {"keeper": processes(str(keeper)) if keeper and Path(f"/proc/{keeper}").exists() else [], "work": work.exists()}
    left |= {"outside": sorted(path.name for path in folder.iterdir()), "secret": secret.read_text()}
    secret.unlink()
    folder.rmdir()
    return {"mechanism": box.mechanism, "processes": probe(box.mechanism).processes, "results": results, "left": left, "uid": os.getuid()}


if __name__ == "__main__":
    import_light(sys.argv[1])
    print(json.dumps(asyncio.run(main(sys.argv[2], json.loads(sys.argv[3])))))
