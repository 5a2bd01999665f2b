"""Kill `stepward label` at random moments and run it again: is anything lost, paid for twice or changed?

    python benchmarks/kill.py --kills 50                      # scripted policy
    python benchmarks/kill.py --kills 5 --policy tiny --limit 12

Every trial starts from nothing, is killed (SIGKILL, the whole process) at a random moment of an undisturbed run's duration, and is run
again to its end. Checked each time: the rerun completes; with a scripted policy its output equals the undisturbed run's byte for byte; what
the journal held at the kill is in it unchanged afterwards; rollouts computed in all = rollouts kept + those that were in flight at the kill.
A counter beside the policy appends one byte for each draw that is really computed, so that nothing depends on the journal's own word.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHILD = "--child"


def child(counter: str, arguments: list[str]) -> None:
    """The real command line with a counter around the policy's draws."""
    from stepward.cli import main as cli
    from stepward.policies import load as policies

    plain = policies.load_policy
    stream = os.open(counter, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def counted(spec: str, **options: Any) -> Any:
        policy = plain(spec, **options)
        sample = policy.sample

        async def sample_and_count(prefix: Any, n: int = 1, **keywords: Any) -> Any:
            drawn = await sample(prefix, n, **keywords)
            os.write(stream, b"." * len(drawn))
            return drawn

        object.__setattr__(policy, "sample", sample_and_count)
        return policy

    from stepward.cli import session

    session.load_policy = counted  # the one place where commands get their policies
    sys.argv = ["stepward", *arguments]
    cli.main()


def command(folder: Path, options: argparse.Namespace) -> list[str]:
    environment = "grade-school:easy" if options.policy == "tiny" else "grade-school"
    wanted = ["label", "--policy", options.policy, "--environment", environment, "--limit", str(options.limit), "--rollouts", str(options.rollouts)]
    return [
        sys.executable,
        __file__,
        CHILD,
        str(folder / "draws"),
        *wanted,
        "--concurrency",
        str(options.concurrency),
        "--out",
        str(folder / "labels.jsonl"),
        "--json",
    ]


def run(folder: Path, options: argparse.Namespace) -> float:
    started = time.perf_counter()
    done = subprocess.run(command(folder, options), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a run that nobody killed ended with code {done.returncode}:\n{done.stderr}")
    return time.perf_counter() - started


def kill(folder: Path, options: argparse.Namespace, after_s: float) -> bool:
    """Start a run and kill it; False when it had ended before."""
    process = subprocess.Popen(command(folder, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def kept(folder: Path) -> dict[str, bytes]:
    """Key and payload of every sample in the journal."""
    path = folder / "labels.jsonl.journal"
    if not path.exists():
        return {}
    with sqlite3.connect(path) as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        return dict(database.execute("select key, payload from records where kind = 'sample'")) if "records" in tables else {}


def draws(folder: Path) -> int:
    return (folder / "draws").stat().st_size if (folder / "draws").exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--policy", default="scripted:grade-school")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        calm = Path(temporary, "calm")
        calm.mkdir()
        duration = run(calm, options)
        wanted, undisturbed = (calm / "labels.jsonl").read_bytes(), draws(calm)
        identical = killed_in_time = most_lost = 0
        killed_with_samples = total_lost = 0
        for trial in range(options.kills):
            folder = Path(temporary, f"trial-{trial}")
            folder.mkdir()
            killed_in_time += kill(folder, options, rng.uniform(0.2, 1.0) * duration)
            before, computed = kept(folder), draws(folder)
            run(folder, options)
            after, total = kept(folder), draws(folder)
            lost = computed - len(before)
            changed = [key for key, payload in before.items() if after.get(key) != payload]
            if changed or lost < 0:
                raise SystemExit(f"trial {trial}: {len(changed)} samples that were paid for before the kill were changed; {lost} lost")
            if total != len(after) + lost or len(after) != undisturbed:
                raise SystemExit(f"trial {trial}: {total} draws computed, {len(after)} kept, {lost} in flight at the kill, {undisturbed} undisturbed")
            identical += (folder / "labels.jsonl").read_bytes() == wanted
            killed_with_samples += 0 < len(before) < undisturbed
            most_lost, total_lost = max(most_lost, lost), total_lost + lost
            if not options.json:
                print(f"trial {trial}: {len(before)} of {undisturbed} draws kept at the kill, {lost} lost in flight", file=sys.stderr)
        if options.policy.startswith("scripted") and identical != options.kills:
            raise SystemExit(f"only {identical} of {options.kills} reruns wrote the undisturbed run's bytes")
    figures = {
        "policy": options.policy,
        "kills": options.kills,
        "killed_before_the_end": killed_in_time,
        "killed_with_part_of_the_samples_kept": killed_with_samples,
        "byte_identical_reruns": identical,
        "draws_undisturbed": undisturbed,
        "draws_lost_in_flight_most": most_lost,
        "draws_lost_in_flight_mean": total_lost / options.kills,
        "undisturbed_s": round(duration, 2),
    }
    print(json.dumps({"benchmark": "kill", "machine": {"platform": platform.platform(), "cores": os.cpu_count()}, "figures": figures, "ratios": {}}))


if __name__ == "__main__":
    if CHILD in sys.argv:
        child(sys.argv[2], sys.argv[3:])
    else:
        main()
