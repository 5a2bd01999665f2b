"""Search: problems solved per second by step beam 4x4 and best-of-16 with a local policy and a local reward model, against two peers on the same weights.

Ours: all problems at once through the shared sampler and reader. The peers: the loop over problems of public scripts (transformers' `generate` with one row a
candidate, one padded pass of the reward model a level), and its_hub's own BeamSearch and BestOfN, once problem by problem and once with all problems awaited
together and merged into batches. Policy: the shipped tiny one. Reward model: a step classifier on the policy's body, trained here on exact labels the first
time (about a minute) and kept. Every side says what share of the problems it solves, so that one sees that they do the same job.

*Prefilled* tokens are those that a model reads without having written them just then; *computed* ones went through it, as prefill or as a row of a pass that
writes (draws that are equal so far share a row). *Distinct* tokens of the trees: every prefix once. *Waiting*: the share of the wall time in which neither
model's thread works, that is, in which both wait for the event loop (search, tokenisation, batching); *loop*: processor seconds of the event loop's thread as a
share of the wall time, whether or not they overlapped with the models' work. Loading and a warm-up on another problem are not timed, for any side, and what
they leave behind is kept from the garbage collector, whose look through it takes as long as a tenth of a run, at moments of its own choosing.

    python benchmarks/search.py --json
    python benchmarks/search.py --problems 8 --only beam
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from search_sides import PIP, Judge, Limits, Solution, Writer, beam_problem, best_of_problem, its_hub_side, its_hub_version, loop

from stepward.core import Example, Problem, Sampling, SearchResult, Step, Trajectory, metered
from stepward.environments.grade_school import GradeSchool
from stepward.evaluation.statistics import wilson
from stepward.policies.load import load_policy, tiny_folder
from stepward.rewards.load import load_reward_model
from stepward.search import BestOfN, StepBeam

_KINDS = {"beam": "step beam 4x4", "best": "best-of-16"}
_ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--only", choices=list(_KINDS))
    parser.add_argument("--model", type=Path, default=_ROOT / "runs" / "benchmarks" / "search_model", help="folder of the reward model; trained where absent")
    parser.add_argument("--rows", type=int, default=128, help="rows of a batch where its_hub's problems are merged")
    parser.add_argument("--repeats", type=int, default=1, help="measure our side so often and report the median")
    parser.add_argument(
        "--threads",
        type=int,
        default=max(1, torch.get_num_threads() // 2),
        help="threads of each of our two models (half of torch's, as they compute at once; the peers' compute in turn and have all)",
    )
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.model / "config.json").exists():
        print(f"training a reward model into {options.model}", file=sys.stderr)
        alone(train_model, options.model)
    if its_hub_version() is None and not options.skip_peers:
        print(f"its_hub is not installed, so that side will be missing; {PIP}", file=sys.stderr)
    problems = list(GradeSchool.easy().problems(0, options.problems, split="test"))
    kinds = [options.only] if options.only else list(_KINDS)
    report: dict[str, Any] = {"benchmark": "search", "machine": machine(), "problems": options.problems, "its_hub": its_hub_version()}
    report["threads"] = {"each of our models": options.threads, "peers": torch.get_num_threads()}
    report["figures"] = {kind: measure(kind, problems, options) for kind in kinds}
    report["ratios"] = {kind: {name: found["times_slower"] for name, found in report["figures"][kind].items()} for kind in kinds}
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; threads: {', '.join(f'{who} {n}' for who, n in report['threads'].items())}")
    for kind in kinds:
        show(kind, report["figures"][kind])


# Our side


def measure(kind: str, problems: Sequence[Problem], options: argparse.Namespace) -> dict[str, Any]:
    """All sides of one search."""
    limits = Limits()
    n_threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    runs = sorted((alone(ours, kind, problems, options.model, limits) for _ in range(options.repeats)), key=lambda run: run["wall_s"])
    torch.set_num_threads(n_threads)
    figures: dict[str, Any] = {"ours": runs[len(runs) // 2] | {"times_slower": 1.0}}
    if options.skip_peers:
        return figures
    figures["loop"] = alone(peer, problems, options.model, limits, lambda *sides: loop(beam_problem if kind == "beam" else best_of_problem, *sides, limits))
    if its_hub_version() is not None:
        for name, at_once in (("its_hub", False), ("its_hub, merged", True)):
            figures[name] = alone(
                peer, problems, options.model, limits, lambda *sides, at_once=at_once: its_hub_side(kind, *sides, limits, at_once=at_once, rows=options.rows)
            )
    for found in figures.values():
        found["times_slower"] = found["wall_s"] / figures["ours"]["wall_s"]
    return figures


def ours(kind: str, problems: Sequence[Problem], folder: Path, limits: Limits) -> dict[str, Any]:
    """One run with caches that know none of the problems."""
    world = GradeSchool.easy()
    policy: Any = load_policy("tiny")
    model: Any = load_reward_model(f"prm:{folder}")
    sampling = Sampling(
        temperature=limits.temperature, max_step_tokens=limits.max_step_tokens, max_tokens=limits.max_tokens, max_steps=limits.max_steps, seed=1
    )
    parts = {"policy": policy, "environment": world, "model": model, "sampling": sampling}
    search: Any = StepBeam(width=limits.width, expansions=limits.expansions, **parts) if kind == "beam" else BestOfN(n=limits.n, **parts)
    asyncio.run(search.search(_other_problem()))
    pool = policy._worker.pool
    pool.n_slot_passes = pool.n_passes = 0
    busy = Busy()
    policy._worker._work = busy.watched("policy", policy._worker._work)
    model._batcher._run = busy.watched("reward", model._batcher._run)

    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*map(search.search, problems)))

    with metered() as ledger, spared_collector():
        start, cpu, loop_cpu = time.perf_counter(), time.process_time(), time.thread_time()
        results = asyncio.run(run())
        wall_s, cpu_s, loop_s = time.perf_counter() - start, time.process_time() - cpu, time.thread_time() - loop_cpu
    nodes = [node for result in results for node in result.tree.nodes]
    written = distinct(policy.rendering.render(node.trajectory).ids for node in nodes)
    read = distinct(encoded.ids.tolist() for node in nodes if node.scores is not None for encoded in model.encoder.sequences(node.trajectory))
    policy.close()
    model._batcher.close()
    right = graded(problems, [Solution(r.chosen.text, r.chosen.finished) if r.chosen is not None else Solution("", False) for r in results])
    ends = [node for result in results for node in result.tree.ends if node.finished and node.scores is not None]
    theirs = Judge(folder, "\n")([(node.trajectory.problem.prompt, node.trajectory.text) for node in ends])
    paid = ledger.paid
    return accuracy(right) | {
        "largest_score_difference": max(abs(score - node.value) for score, node in zip(theirs, ends, strict=True)),  # the peers' judge and ours
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "tokens_written": paid.policy_tokens,
        "policy_prefilled": paid.policy_prefill,
        "policy_distinct": written,
        "policy_prefilled_over_distinct": paid.policy_prefill / written,
        "policy_computed": paid.policy_prefill + pool.n_slot_passes,
        "policy_computed_over_distinct": (paid.policy_prefill + pool.n_slot_passes) / written,
        "policy_passes": pool.n_passes,
        "reward_read": paid.reward_tokens,
        "reward_distinct": read,
        "reward_read_over_distinct": paid.reward_tokens / read,
        "policy_busy": busy.seconds("policy") / wall_s,
        "reward_busy": busy.seconds("reward") / wall_s,
        "waiting": 1 - busy.seconds("policy", "reward") / wall_s,
        "loop": loop_s / wall_s,
    }


def _other_problem() -> Problem:
    """For a warm-up."""
    return next(iter(GradeSchool.easy().problems(1, 1, split="dev")))


class Busy:
    """When the models' threads were at work."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, float, float]] = []
        self._lock = threading.Lock()

    def watched(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                with self._lock:
                    self._spans.append((name, start, time.perf_counter()))

        return run

    def seconds(self, *names: str) -> float:
        """Seconds in which at least one of them worked."""
        total = reached = 0.0
        for start, end in sorted((start, end) for name, start, end in self._spans if name in names):
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total


@contextmanager
def spared_collector() -> Iterator[None]:
    """What was loaded before is no garbage, and not looked through for any."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def distinct(sequences: Iterable[Sequence[int]]) -> int:
    """Tokens of the sequences, those of equal beginnings counted once."""
    total, before = 0, ()
    for sequence in sorted(set(map(tuple, sequences))):
        shared = 0
        for a, b in zip(before, sequence, strict=False):
            if a != b:
                break
            shared += 1
        total += len(sequence) - shared
        before = sequence
    return total


# The peers


def peer(problems: Sequence[Problem], folder: Path, limits: Limits, solve: Callable[[Sequence[str], Writer, Judge], Sequence[Solution]]) -> dict[str, Any]:
    """One run of a peer."""
    writer, judge = Writer(tiny_folder(), "\n", limits), Judge(folder, "\n")
    prompts = [problem.prompt for problem in problems]
    torch.manual_seed(1)
    other = _other_problem().prompt  # warm up
    writer([f"{other}\n"], one_step=True)
    judge([(other, "12 + 3 = 15.")])
    writer.n_written = writer.n_prefilled = judge.n_read = 0
    with spared_collector():
        start, cpu = time.perf_counter(), time.process_time()
        solutions = solve(prompts, writer, judge)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return accuracy(graded(problems, solutions)) | {
        "wall_s": wall_s, "cpu_s": cpu_s, "tokens_written": writer.n_written, "policy_prefilled": writer.n_prefilled, "reward_read": judge.n_read
    }  # fmt: skip


def graded(problems: Sequence[Problem], solutions: Sequence[Solution]) -> list[bool]:
    """Whether each solution is right; one that was cut off is not."""
    world = GradeSchool.easy()

    async def grade() -> list[bool]:
        outcomes = [await world.grade(_trajectory(problem, solution)) for problem, solution in zip(problems, solutions, strict=True)]
        return [outcome.value == 1.0 for outcome in outcomes]

    return asyncio.run(grade())


def _trajectory(problem: Problem, solution: Solution) -> Trajectory:
    steps = tuple(Step(line, "\n") for line in solution.text.split("\n") if line.strip())
    return Trajectory(problem, steps, finished=solution.finished, truncated=not solution.finished)


def accuracy(right: Sequence[bool]) -> dict[str, Any]:
    return {"accuracy": wilson(sum(right), len(right)).to_json()}


# The reward model


def train_model(out: Path) -> None:
    """A step classifier on the tiny policy's body, from exact labels of its own solutions."""
    from stepward.environments.episode import solve
    from stepward.rewards.convention import Convention
    from stepward.training.config import TrainConfig
    from stepward.training.trainer import train

    world, policy = GradeSchool.easy(), load_policy("tiny")

    async def examples(split: str, n: int) -> list[Example]:
        pools = await asyncio.gather(*(solve(policy, world, problem, 8) for problem in world.problems(0, n, split=split)))
        trajectories = {trajectory.key: trajectory for pool in pools for trajectory in pool}.values()
        return [Example(trajectory, world.labels(trajectory, "prefix"), source="tiny") for trajectory in trajectories]

    config = TrainConfig(backbone=str(tiny_folder()), convention=Convention(), epochs=3, lr=3e-4, batch_tokens=2048, eval_every=200)
    train(asyncio.run(examples("train", 400)), asyncio.run(examples("dev", 50)), config, out)


# Showing


def show(kind: str, figures: dict[str, Any]) -> None:
    print(f"\n{_KINDS[kind]}")
    print(f"{'side':18s} {'wall s':>8s} {'x ours':>7s} {'cpu s':>7s}  {'solved, % [95 %]':20s} {'written':>8s} {'prefilled':>9s} {'reward':>8s}")
    for name, found in figures.items():
        right = found["accuracy"]
        solved = f"{100 * right['value']:.1f} [{100 * right['low']:.1f}, {100 * right['high']:.1f}]"
        print(
            f"{name:18s} {found['wall_s']:8.2f} {found['times_slower']:7.2f} {found['cpu_s']:7.2f}  {solved:20s} {found['tokens_written']:8d} "
            f"{found['policy_prefilled']:9d} {found['reward_read']:8d}"
        )
    mine = figures["ours"]
    print(f"prefilled / distinct: policy {mine['policy_prefilled']} / {mine['policy_distinct']} = {mine['policy_prefilled_over_distinct']:.3f}", end=", ")
    print(f"reward {mine['reward_read']} / {mine['reward_distinct']} = {mine['reward_read_over_distinct']:.3f}", end="; computed / distinct: policy ")
    print(f"{mine['policy_computed']} / {mine['policy_distinct']} = {mine['policy_computed_over_distinct']:.3f}")
    print(f"largest difference of a score between the peers' judge and ours: {mine['largest_score_difference']:.1e}")
    print(f"busy: policy {mine['policy_busy']:.1%}, reward {mine['reward_busy']:.1%}; waiting {mine['waiting']:.1%}; loop {mine['loop']:.1%}")


def alone(measured: Callable[..., Any], *arguments: Any) -> Any:
    """Measure in a thread of its own, which takes its OpenMP team with it when it ends: idle teams would take the cores from the one that is measured."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(measured, *arguments).result()


def machine() -> str:
    return f"{platform.system()} {os.cpu_count()} x {platform.machine()}, python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
