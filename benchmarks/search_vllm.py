"""Kill a vLLM server (SIGKILL) in the middle of a step beam search over many problems, start it again, run the same command: is anything lost or paid twice?

    python benchmarks/search_vllm.py --vllm "COMMAND serve"

COMMAND gets a model folder and a port. Runs: 1 is disturbed once `--kill-after` draws are in the journal; 2 is the same command with a new server; 3 the same
command with no server at all, which must find everything in the journal. Checked: what the journal held after run 1 is in it unchanged; run 2 pays for
exactly the draws that were missing, by the client's count, the journal's and the server's own (/metrics); run 2's results are complete; run 3 pays nothing and
writes run 2's bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from scoring_server import started

CHILD = "--child"
_MODEL = "tiny"
_START_S = 900.0  # vLLM starts slowly on a busy CPU


def child(url: str, folder: str, n_problems: str) -> None:
    """The command that is run again and again: search every problem, write the results, print what it cost."""
    from stepward.core import Sampling, metered
    from stepward.data.store import write_records
    from stepward.engine.concurrency import Failure, run_all
    from stepward.engine.journal import Journal
    from stepward.engine.journaled import JournaledPolicy, JournaledRewardModel
    from stepward.engine.loop import run_sync
    from stepward.environments.load import load_environment
    from stepward.policies.http import HttpPolicy
    from stepward.rewards.load import load_reward_model
    from stepward.search import StepBeam

    world = load_environment("grade-school:easy")
    journal = Journal(Path(folder, "search.journal"))
    policy = JournaledPolicy(HttpPolicy(url, _MODEL, separator="\n", api="completions"), journal)
    model = JournaledRewardModel(load_reward_model("oracle:grade-school"), journal)
    beam = StepBeam(policy=policy, environment=world, model=model, width=4, expansions=2, sampling=Sampling(max_tokens=200, max_step_tokens=60, max_steps=16))

    async def run() -> tuple[list[Any], Any]:
        with metered() as ledger:
            return await run_all(list(world.problems(0, int(n_problems))), beam.search, limit=16), ledger

    results, ledger = run_sync(run())
    journal.close()
    whole = [result for result in results if not isinstance(result, Failure)]
    write_records(whole, Path(folder, "results.jsonl"))
    figures = {
        "results": len(whole),
        "with_failed_requests": sum("failure" in result.source for result in whole),
        "chose": sum(result.chosen is not None for result in whole),
        "policy_tokens": ledger.usage.policy_tokens,
        "paid_tokens": ledger.paid.policy_tokens,
        "paid_calls": ledger.paid.calls,
    }
    figures["first_failure"] = next((result.source["failure"] for result in whole if "failure" in result.source), "")
    print(json.dumps(figures))


def run(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One run of the command to its end."""
    done = subprocess.run([sys.executable, __file__, CHILD, url, str(folder), str(options.problems)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a run ended with code {done.returncode}:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def kept(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Payload and policy tokens of every sample in the journal, by key."""
    path = folder / "search.journal"
    if not path.exists():
        return {}
    with sqlite3.connect(path) as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        rows = database.execute("select key, payload, usage from records where kind = 'sample'") if "records" in tables else []
        return {key: (payload, json.loads(usage).get("policy_tokens", 0)) for key, payload, usage in rows}


def tokens_written(url: str) -> int:
    """Tokens that the server has generated, by its own count."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    return int(sum(float(value) for value in re.findall(r"^vllm:generation_tokens_total\{[^}]*\} (\S+)$", text, re.MULTILINE)))


def disturbed(vllm: str, model: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run 1: its server is killed as soon as enough draws are kept."""
    with server(vllm, model) as (url, process):
        command = [sys.executable, __file__, CHILD, f"{url}/v1", str(folder), str(options.problems)]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(kept(folder)) < options.kill_after and client.poll() is None:
            time.sleep(0.05)
        if client.poll() is not None:
            said = "\n".join(client.communicate())
            raise SystemExit(f"the run ended before {options.kill_after} draws were kept ({len(kept(folder))}); raise --problems\n{said[-3000:]}")
        os.killpg(process.pid, signal.SIGKILL)
        at_kill = len(kept(folder))
        out, errors = client.communicate()
        if client.returncode:
            raise SystemExit(f"the client did not survive its server: {errors[-3000:]}")
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures | {"draws_kept_at_the_kill": at_kill}


@contextmanager
def server(vllm: str, model: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address and process. Prompts are not split: vLLM 0.32 on a CPU dies when a request with a seed is ("CPU Generator does not use offset")."""
    whole = "--no-enable-chunked-prefill --max-num-batched-tokens 65536"
    with started(f"{vllm} {{model}} {{port}} --served-model-name {_MODEL} {whole}", str(model), dtype="float32", step_tag=None, start_s=_START_S) as found:
        yield found


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", required=True, help="a command to which a model folder and a port are added")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--kill-after", type=int, default=150, help="draws in the journal")
    options = parser.parse_args()
    from stepward.policies.load import tiny_folder

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first = disturbed(options.vllm, tiny_folder(), folder, options)
        before = kept(folder)
        with server(options.vllm, tiny_folder()) as (url, _):
            second = run(f"{url}/v1", folder, options)
            generated = tokens_written(url)
        after, results = kept(folder), (folder / "results.jsonl").read_bytes()
        third = run(f"http://127.0.0.1:{unused_port()}/v1", folder, options)
        again = (folder / "results.jsonl").read_bytes()
    added = sum(tokens for key, (_, tokens) in after.items() if key not in before)
    checks = {
        "run 1 was disturbed": first["with_failed_requests"] > 0,
        "what was kept is kept unchanged": all(after.get(key) == value for key, value in before.items()),
        "run 2 paid for the missing draws alone (client)": second["paid_tokens"] == added,
        "run 2 paid for the missing draws alone (server)": generated == added,
        "run 2 is complete": second["results"] == options.problems and second["with_failed_requests"] == 0,
        "run 3, without a server, pays nothing": third["paid_tokens"] == 0 and third["with_failed_requests"] == 0,
        "run 3 writes the same bytes": again == results,
    }
    figures = {
        "problems": options.problems,
        "draws_kept_before_run_2": len(before),
        "draws_in_all": len(after),
        "tokens_kept_before_run_2": sum(tokens for _, tokens in before.values()),
        "tokens_added_in_run_2": added,
        "tokens_generated_by_the_server_in_run_2": generated,
        "run_1": first,
        "run_2": second,
        "run_3": third,
        "checks": checks,
    }
    print(json.dumps({"benchmark": "search_vllm", "machine": {"platform": platform.platform(), "cores": os.cpu_count()}, "figures": figures, "ratios": {}}))
    if not all(checks.values()):
        raise SystemExit(f"failed: {[name for name, holds in checks.items() if not holds]}")


if __name__ == "__main__":
    if CHILD in sys.argv:
        child(*sys.argv[2:])
    else:
        main()
