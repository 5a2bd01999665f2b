"""Judge-based labelers on the trajectories of benchmarks/labeling.py, which runs this and prints it: what labels are worth, and what judges read and write.

The judges are simulated: `NoisyJudge` knows whether each step, by itself, is right, and says so with stated errors, independent given the truth but for one
judge that makes half of its errors again each time that it is asked. So the table compares ways of using a judge of known quality. It says nothing about how
good any model is as a judge, nor what prompts or a reference solution in them do: to this judge they are new noise. What reading costs is the words of
problem and solution an answer, what writing costs 20 words a step; instructions, references and reviews are not counted.

Labelers that need a judge's words (SPARK's meta-critique, PathFinder's axes, VerifiAgent's question about the whole) are left out, or asked without that part.
Labels about each step by itself are read as "no error so far". Constructed errors are labels of other solutions: the reference solutions, one change each,
and as many controls without an error.

    python benchmarks/labeling.py --only judges --n 100 --json > judges.json
    python benchmarks/labeling_judges.py judges.json  # as tables in Markdown
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stepward.core import Labeler, Policy, Problem, RewardModel, Sampling, StepLabels, Trajectory, Usage, metered
from stepward.engine.concurrency import Failure, run_all
from stepward.evaluation.labeling_cost import labeling_cost
from stepward.labeling.consensus import as_prefix
from stepward.labeling.judges import Aurora, JudgedMonteCarlo, JudgeLabels, Spare, Spark, VerifiAgent, Versa
from stepward.labeling.perturb import inject
from stepward.labeling.selftrain import PseudoLabels
from stepward.labeling.tools import ToolLabels
from stepward.rewards.verifiers import StepContext, Verdict, Verifier
from stepward.rewards.verifiers.load import load_tools
from stepward.testing.noisy_judge import NoisyJudge

JUDGES: dict[str, dict[str, float]] = {
    "0.80 / 0.95": {"miss": 0.2, "false_alarm": 0.05},
    "0.60 / 0.85": {"miss": 0.4, "false_alarm": 0.15},
    "0.80 / 0.95, half shared": {"miss": 0.2, "false_alarm": 0.05, "shared": 0.5},
}
"""sensitivity (wrong steps called wrong) / specificity (right steps called right)."""
NO_JUDGE = "none"
TOOLS = "tools:arithmetic+algebra+quantities+logic"  # the others have nothing to read in these worlds
_SEED = 3


@dataclass(frozen=True)
class JudgeEntry:
    """A labeler of a `family` at one `setting`, and which of the `JUDGES` it asks."""

    family: str
    setting: str
    judge: str
    labeler: Labeler


@dataclass(frozen=True, eq=False)
class Remembering:
    """A verifier that checks every step once, however many labelers ask."""

    verifier: Verifier
    found: dict[tuple[str, int], list[Verdict]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.verifier.name

    @property
    def fingerprint(self) -> str:
        return self.verifier.fingerprint

    def reads(self, context: StepContext) -> bool:
        return self.verifier.reads(context)

    async def verify(self, context: StepContext) -> list[Verdict]:
        key = context.trajectory.key, context.index
        if key not in self.found:
            self.found[key] = await self.verifier.verify(context)
        return self.found[key]


def judge_entries(policy: Policy, world: Any, sampling: Sampling) -> Iterator[JudgeEntry]:
    """Every labeler with every judge; those without a judge first."""
    tools = [Remembering(verifier) for verifier in load_tools(TOOLS).router.verifiers]
    yield JudgeEntry("tools", "+".join(verifier.name for verifier in tools), NO_JUDGE, ToolLabels(verifiers=tools))
    for name, rates in JUDGES.items():
        judge = simulated(world, rates)
        yield JudgeEntry("judge", "one answer", name, JudgeLabels(judge=judge))
        yield JudgeEntry("SPARK", "n 8, steps", name, Spark(judge=judge))
        yield JudgeEntry("SPARK", "n 8, outcome", name, Spark(judge=judge, how="outcome"))
        yield JudgeEntry("SPARK", "n 8, first error", name, Spark(judge=judge, how="first-error"))
        yield JudgeEntry("VersaPRM", "one answer", name, Versa(judge=judge))
        yield JudgeEntry("SPARE", "one answer", name, Spare(judge=judge, environment=world))
        yield JudgeEntry("AURORA", "4 views, reverse", name, Aurora(judge=judge, environment=world))
        yield JudgeEntry("pseudo-labels", "k 8, tau 0.75", name, PseudoLabels(judge=replace(judge, k=8), tau=0.75, semantics="local"))
        yield JudgeEntry("VerifiAgent", "tools, then judge", name, VerifiAgent(judge=judge, verifiers=tools, whole=False))
        yield JudgeEntry("consensus, Monte-Carlo", "n 8", name, JudgedMonteCarlo(policy=policy, environment=world, judge=judge, sampling=sampling))


def simulated(world: Any, rates: dict[str, float]) -> NoisyJudge:
    """The judge of these rates."""
    return NoisyJudge(world, semantics="local", seed=_SEED, **rates)  # type: ignore[arg-type]


async def judge_rows(policy: Policy, world: Any, sampling: Sampling, trajectories: Sequence[Trajectory], truths: Sequence[int]) -> list[dict[str, Any]]:
    """A row a labeler: what `labeling_cost` says, with the judge that was asked."""
    rows = []
    for entry in judge_entries(policy, world, sampling):
        start = time.perf_counter()
        made = await run_all(trajectories, entry.labeler.label, limit=128)
        labels = [
            StepLabels.unlabelled(len(one), found.reason, semantics="prefix") if isinstance(found, Failure) else as_prefix(found)
            for one, found in zip(trajectories, made, strict=True)
        ]
        rows.append(_row(entry.family, entry.setting, entry.judge, labels, truths, trajectories, start))
    problems = [one.problem for one in trajectories]
    rows.append(await constructed(world, problems, NO_JUDGE, None))
    for name, rates in JUDGES.items():
        rows.append(await constructed(world, problems, name, simulated(world, rates)))
    return [row for row in rows if row]


async def constructed(world: Any, problems: Sequence[Problem], name: str, judge: RewardModel | None) -> dict[str, Any]:
    """The labels of constructed errors and their controls; with a judge those that it confirms, at the price of all that it was asked about."""
    start = time.perf_counter()
    gold = [Trajectory.from_texts(problem, problem.reference_steps, separator="\n") for problem in problems]
    with metered() as ledger:
        injected = await inject(gold, seed=_SEED, confirm=None if judge is None else JudgeLabels(judge=judge))
    kept = [*injected.errors, *injected.controls]
    if not kept:
        return {}
    made = [replace(one.labels("prefix"), usage=Usage()) for one in kept]
    made[0] = replace(made[0], usage=ledger.usage)  # the mean is what counts
    truths = [-2 if (first := world.labels(one.trajectory).first_error) is None else first for one in kept]  # -2: the environment cannot say; nobody is right
    row = _row("constructed errors", "one change" if judge is None else "confirmed", name, made, truths, [one.trajectory for one in kept], start)
    return row | {"share_kept": len(injected.errors) / injected.made.total()}


def _row(
    family: str, setting: str, judge: str, labels: Sequence[StepLabels], truths: Sequence[int], trajectories: Sequence[Trajectory], start: float
) -> dict[str, Any]:
    seconds = time.perf_counter() - start
    print(f"{family}, {setting}, judge {judge}: {seconds:.1f} s", file=sys.stderr, flush=True)
    cost = labeling_cost(labels, truths, [one.problem.id for one in trajectories])
    return {"family": family, "setting": setting, "judge": judge, "seconds": seconds, **cost.to_json()}


def show_judges(rows: Sequence[dict[str, Any]]) -> None:
    """The table, by judge."""
    print("\nwith simulated judges: the exact truth of each step, of which a judge calls right what is wrong and wrong what is right at the stated rates")
    print(
        f"{'labeler':24s} {'setting':34s} {'first error [95 %]':>22s}  {'named':>5s} {'of those right':>20s} "
        + " ".join(f"{head:>6s}" for head in ("steps", "sure", "right"))
        + f" {'policy':>7s} {'reward':>7s} tokens"
    )
    for name in dict.fromkeys(row["judge"] for row in rows):
        print("no judge" if name == NO_JUDGE else f"judge: sensitivity / specificity {name}")
        for row in (one for one in rows if one["judge"] == name):
            setting = row["setting"] + (f", {row['share_kept']:.2f} kept" if "share_kept" in row else "")
            cells = " ".join(f"{'' if row[cell] is None else f'{row[cell]:.3f}':>6s}" for cell in ("step_accuracy", "stated", "earned"))
            print(
                f"  {row['family']:22s} {setting:34s} {_shown(row['first_error_accuracy']):>22s}  {row['named']:5.3f} "
                f"{_shown(row['first_error_precision']):>20s} {cells} {row['tokens']:7.0f} {row['reward_tokens']:7.0f}"
            )


def _shown(estimate: dict[str, Any]) -> str:
    return "" if estimate["value"] is None else f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def markdown(scenarios: Mapping[str, Any]) -> str:
    """A table a judge: methods by scenarios, share of first errors named rightly (among the named, and share named) @ policy + reward tokens."""
    names = [name for name, found in scenarios.items() if found["judges"]]
    rows = {name: {(row["judge"], row["family"], row["setting"]): row for row in scenarios[name]["judges"]} for name in names}
    lines: list[str] = []
    for judge in (NO_JUDGE, *JUDGES):
        head = "no judge" if judge == NO_JUDGE else f"sensitivity / specificity {judge}"
        lines += ["", f"| {head} | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
        for key in dict.fromkeys(key for name in names for key in rows[name] if key[0] == judge):
            lines.append(f"| {key[1]}, {key[2]} | " + " | ".join(_cell(rows[name].get(key)) for name in names) + " |")
    return "\n".join(lines[1:])


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "none kept"
    precision = row["first_error_precision"]["value"]
    part = "" if row["named"] > 0.995 or precision is None else f" ({precision:.2f} of {row['named']:.2f})"
    policy = f"{row['tokens']:,.0f} + " if row["tokens"] else ""
    kept = f", {row['share_kept']:.2f} kept" if "share_kept" in row else ""
    return f"{row['first_error_accuracy']['value']:.2f}{part} @ {policy}{row['reward_tokens']:,.0f}{kept}"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())["scenarios"]))
