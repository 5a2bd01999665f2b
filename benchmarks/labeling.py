"""Labeling: every rollout labeler on the same trajectories, what its labels are worth and what they cost in policy tokens, against exact truth.

Scenarios: grade-school and deduction with their scripted policies, which repair errors, or never do (`notice` 0, `lucky` 0), and whose value is exact at
every prefix; and with the tiny policies, where only the truth of steps is exact. `--n` trajectories each, one a problem, as the policy wrote them. The prior
of adaptive labeling is fitted on a pilot of other problems, without labels; its share of the pilot's tokens is added to its cost wherever it is compared. All
labelers complete prefixes with the policy that wrote them.

For each labeler: first-error accuracy (interval: resampled problems), accuracy of hard steps, error of values, coverage and width of stated 95 % intervals,
confidence stated and earned, policy tokens a trajectory. Thresholds of Monte-Carlo are varied after the fact, on the same rollouts; the table shows 0 and the
best. Then, for every labeler, the tokens that adaptive labeling needs to be as accurate. "fixed": the width that value intervals would have had every step the
same number of counted rollouts (a rollout counts at every prefix that it passes through).
Then labelers that ask a judge, with simulated judges: `labeling_judges` says which, and what they read and write. Their rows alone: --only judges.
Last, the rollouts of OmegaPRM's search in worlds of 4 to 64 steps, which should grow with the logarithm of their number.

    python benchmarks/labeling.py --n 500 --plot labeling.png
    python benchmarks/labeling.py --scenarios grade-school:scripted,deduction:no-repair --n 100 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from labeling_judges import judge_rows, show_judges

from stepward.core import Environment, Labeler, Policy, Sampling, StepLabels, Trajectory, first_bad, metered
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy
from stepward.environments.episode import solve
from stepward.environments.load import load_environment
from stepward.evaluation.labeling_cost import LabelingCost, labeling_cost, tokens_to_reach
from stepward.labeling.adaptive.confidence import clopper_pearson
from stepward.labeling.adaptive.fit import fit_prior
from stepward.labeling.adaptive.half_width import HalfWidth
from stepward.labeling.adaptive.labeler import Adaptive
from stepward.labeling.adaptive.prior import DEFAULT_PRIOR, Prior
from stepward.labeling.completer import Completer
from stepward.labeling.entropy_regularised import EntropyRegularised
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.prover_progress import ProverProgress
from stepward.labeling.relative_progress import RelativeProgress
from stepward.labeling.scan import Scan
from stepward.labeling.stepwise_outcome import StepwiseOutcome
from stepward.labeling.trees.full_width import FullWidth
from stepward.labeling.trees.omega import CurtailedOmegaPRM, OmegaPRM
from stepward.labeling.trees.rest import ReSTMCTS
from stepward.labeling.uncertainty_driven import UncertaintyDriven
from stepward.policies.load import load_policy
from stepward.testing.search_cost import search_cost

SCENARIOS = {  # name: environment, policy and its options
    "grade-school:scripted": ("grade-school", "scripted:grade-school", {}),
    "grade-school:no-repair": ("grade-school", "scripted:grade-school", {"notice": 0.0, "lucky": 0.0}),
    "deduction:scripted": ("deduction", "scripted:deduction", {}),
    "deduction:no-repair": ("deduction", "scripted:deduction", {"notice": 0.0, "lucky": 0.0}),
    "grade-school:tiny": ("grade-school:easy", "tiny", {}),
    "deduction:tiny": ("deduction:simple", "tiny:deduction", {}),
}
ERRORS = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02)
WIDTHS = (0.2, 0.15, 0.1)
_THRESHOLDS = (0.0, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2)
_SAMPLING = Sampling(temperature=1.0)


@dataclass(frozen=True)
class Entry:
    """One labeler of a `family` at one `setting`; `thresholds`: hard labels are also read at these shares of its rollouts.

    estimates_v: whether its values are estimates of V, so that their error and coverage can be told; those of ER-PRM and PAV are a map of V.
    """

    family: str
    setting: str
    labeler: Labeler
    thresholds: tuple[float, ...] = ()
    estimates_v: bool = True


def entries(policy: Policy, world: Environment, prior: Prior, *, exact: bool) -> Iterator[Entry]:
    """Every labeler; settings as published first."""
    common: dict[str, Any] = {"policy": policy, "environment": world, "sampling": _SAMPLING}
    completer = Completer(**common)
    for error in ERRORS:
        yield Entry("adaptive", f"error {error:g}", Adaptive(completer=completer, prior=prior, error=error, least_gain=0.01 if error > 0.05 else 0.004))
    for error in ERRORS[::2]:
        yield Entry("adaptive, no pilot", f"error {error:g}", Adaptive(completer=completer, error=error))
    for n in (4, 8, 16, 32):
        yield Entry("Monte-Carlo", f"n {n}", MonteCarlo(n=n, **common), _THRESHOLDS)
    for n in (4, 8, 16):
        yield Entry("Monte-Carlo hard, curtailed", f"n {n}", MonteCarlo(n=n, estimate="hard", batch=1, **common))
    for n in (8, 16):
        yield Entry("OmegaPRM", f"n {n}", OmegaPRM(rollouts=n, **common))
        yield Entry("OmegaPRM bisection, curtailed", f"n {n}", CurtailedOmegaPRM(rollouts=n, searches=1, **common))
    yield Entry("SCAN", "n 8, root 16", Scan(n_root=16, min_confidence=0.01, **common))
    yield Entry("SORM", "n 8", StepwiseOutcome(n=8, consistency="none", **common))
    yield Entry("SORM", "n 8, backward", StepwiseOutcome(n=8, consistency="none", search="backward", **common))
    yield Entry("ER-PRM", "n 8, eta 2", EntropyRegularised(n=8, eta=2.0, **common), estimates_v=False)
    yield Entry("GenPRM relative progress", "n 32 to 128", RelativeProgress(**common))
    yield Entry("PAV, best of 4", "n 8", ProverProgress(**common), estimates_v=False)
    yield Entry("UnPRM", "bisect", UncertaintyDriven(search="bisect", value="share", **common))
    yield Entry("ReST-MCTS*", "n 8", ReSTMCTS(**common))
    yield Entry("full-width tree", "2 wide", FullWidth(**common))
    if exact:
        for width in WIDTHS:
            yield Entry("adaptive values", f"half-width {width:g}", Adaptive(completer=completer, target="value", rule=HalfWidth(width)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="trajectories a scenario")
    parser.add_argument("--pilot", type=int, default=40, help="trajectories on which the prior is fitted")
    parser.add_argument("--seed", type=int, default=11, help="of the problems; methods were tuned on others")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--only", help="families to run, comma-separated, or judges; default: all")
    parser.add_argument("--plot", help="write a picture of accuracy against tokens here")
    parser.add_argument("--journal", help="folder in which what was paid for is kept between runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, Any] = {"benchmark": "labeling", "n": options.n, "scenarios": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.journal or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.scenarios.split(","):
            with Journal(folder / f"{name.replace(':', '-')}.journal") as journal:
                report["scenarios"][name] = asyncio.run(scenario(name, journal, options))
    report["search_cost"] = {} if options.only else search_costs()
    if options.plot:
        plot(report, options.plot)
    print(json.dumps(report)) if options.json else show(report)


def search_costs() -> dict[str, list[dict[str, Any]]]:
    """Rollouts until the first error of a solution is found, by number of steps, where errors are never repaired and V = 0.5 before them.

    Adaptive labeling is told that nothing is repaired, as OmegaPRM's halving takes for granted; it does not know that first errors are spread evenly.
    """
    lengths = (4, 8, 16, 32, 64)
    makers = {
        "OmegaPRM": lambda policy, world, sampling: OmegaPRM(policy=policy, environment=world, sampling=sampling),
        "OmegaPRM, curtailed": lambda policy, world, sampling: CurtailedOmegaPRM(policy=policy, environment=world, sampling=sampling),
        "adaptive, told so": lambda policy, world, sampling: Adaptive(
            completer=Completer(policy=policy, environment=world, sampling=sampling), prior=DEFAULT_PRIOR.never_repaired(), least_gain=0.001
        ),
        "Monte-Carlo": lambda policy, world, sampling: MonteCarlo(policy=policy, environment=world, sampling=sampling),
    }
    return {name: [asdict(row) for row in asyncio.run(search_cost(make, lengths))] for name, make in makers.items()}


async def scenario(name: str, journal: Journal, options: argparse.Namespace) -> dict[str, Any]:
    world_name, policy_name, settings = SCENARIOS[name]
    world, inner = load_environment(world_name), load_policy(policy_name, **settings)
    exact = hasattr(inner, "value")
    policy: Policy = inner if exact else JournaledPolicy(inner, journal)  # scripted policies cost less than the journal
    problems = list(world.problems(options.seed, options.n + options.pilot))  # type: ignore[attr-defined]
    pools = await run_all(problems, lambda problem: solve(policy, world, problem, 1, sampling=replace(_SAMPLING, seed=1)), limit=128)
    written = [pool[0] for pool in pools if not isinstance(pool, Failure) and len(pool[0]) and pool[0].ended]
    trajectories, pilot = written[: options.n], written[options.n :]
    truths = [world.labels(trajectory).first_error for trajectory in trajectories]  # type: ignore[attr-defined]
    kept = [(trajectory, truth) for trajectory, truth in zip(trajectories, truths, strict=True) if truth is not None]
    trajectories, truths = [one for one, _ in kept], [truth for _, truth in kept]
    values = [np.array([inner.value(one.prefix(k)) for k in range(1, len(one) + 1)]) for one in trajectories] if exact else None
    wanted = None if options.only is None else set(options.only.split(","))
    with metered() as ledger:
        needs_prior = wanted is None or "adaptive" in wanted
        prior = await fit_prior(pilot, Completer(policy=policy, environment=world, sampling=_SAMPLING)) if needs_prior else DEFAULT_PRIOR
    rows = []
    for entry in entries(policy, world, prior, exact=exact):
        if wanted is None or entry.family in wanted:
            rows += await measured(entry, trajectories, truths, values)
    judged = await judge_rows(policy, world, _SAMPLING, trajectories, truths) if wanted is None or "judges" in wanted else []
    return {
        "n": len(trajectories),
        "n_with_error": sum(truth != -1 for truth in truths),
        "n_right_answers": sum(bool(one.outcome and one.outcome.correct) for one in trajectories),
        "mean_steps": float(np.mean([len(one) for one in trajectories])),
        "pilot_tokens": ledger.usage.policy_tokens,
        "rows": rows,
        "judges": judged,
        "against": against(rows, ledger.usage.policy_tokens / len(trajectories)),
    }


async def measured(entry: Entry, trajectories: Sequence[Trajectory], truths: Sequence[int], values: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The labeler's row, and one for each threshold at which its counts are read."""
    start = time.perf_counter()
    labels = await run_all(trajectories, entry.labeler.label, limit=128)
    found = [
        StepLabels.unlabelled(len(one), made.reason, semantics="value") if isinstance(made, Failure) else made
        for one, made in zip(trajectories, labels, strict=True)
    ]
    seconds = time.perf_counter() - start
    print(f"{entry.family}, {entry.setting}: {seconds:.1f} s", file=sys.stderr, flush=True)
    keys = [one.problem.id for one in trajectories]
    rows = []
    for threshold in entry.thresholds or (None,):
        read = found if threshold is None else [rethresholded(one, threshold) for one in found]
        cost = labeling_cost(read, truths, keys, exact=values if entry.estimates_v else None)
        setting = entry.setting if not threshold else f"{entry.setting}, above {threshold:.3g}"
        rows.append({"family": entry.family, "setting": setting, "seconds": seconds, **cost.to_json(), **_equal_cost_width(read, cost)})
    return rows


def rethresholded(labels: StepLabels, threshold: float) -> StepLabels:
    """The same values with hard labels value > threshold; the graded last step keeps its label."""
    hard = tuple(None if math.isnan(value) else bool(value > threshold) for value in labels.values)
    return replace(labels, hard=hard, first_error=first_bad(hard))


def _equal_cost_width(labels: Sequence[StepLabels], cost: LabelingCost) -> dict[str, Any]:
    """For values with intervals: the mean width of exact intervals had every step of a trajectory the same share of its counted rollouts."""
    if math.isnan(cost.width):
        return {}
    widths = []
    for one in labels:
        counts = [count for count in one.counts if count is not None]
        if counts:
            n = sum(count.rollouts for count in counts) / len(counts)
            widths += [_width(count.value, n) for count in counts if count.rollouts]
    return {"fixed_n_width": float(np.mean(widths)) if widths else None}


def _width(value: float, n: float) -> float:
    """Mean Clopper-Pearson width at n rollouts when the share is `value`; n need not be whole."""
    low, high = math.floor(n), math.ceil(n)
    part = n - low
    sides = [clopper_pearson(round(value * max(1, size)), max(1, size)) for size in (low, high)]
    return (1 - part) * (sides[0][1] - sides[0][0]) + part * (sides[1][1] - sides[1][0])


def against(rows: Sequence[dict[str, Any]], pilot: float) -> list[dict[str, Any]]:
    """For each labeler as published and at its most accurate setting: the tokens that adaptive labeling needs to be as accurate, with its `pilot`'s."""
    points = [(row["tokens"] + pilot, row["first_error_accuracy"]["value"]) for row in rows if row["family"] == "adaptive"]
    if not points:
        return []
    found = []
    for family in dict.fromkeys(row["family"] for row in rows if not row["family"].startswith("adaptive")):
        of_family = [row for row in rows if row["family"] == family]
        published = of_family[:1] if family != "Monte-Carlo" else [row for row in of_family if row["setting"] == "n 8"]
        best = max(of_family, key=lambda row: (row["first_error_accuracy"]["value"], -row["tokens"]))
        for what, row in [("as published", one) for one in published] + [("best setting", best)]:
            accuracy, tokens = row["first_error_accuracy"]["value"], row["tokens"]
            needed = tokens_to_reach(points, accuracy)
            found.append(
                {
                    "family": family,
                    "what": what,
                    "setting": row["setting"],
                    "accuracy": accuracy,
                    "tokens": tokens,
                    "adaptive_tokens": needed if math.isfinite(needed) else None,
                }
                | {"ratio": tokens / needed if math.isfinite(needed) and needed > 0 else None}
            )
    return found


def show(report: dict[str, Any]) -> None:
    heads = ("steps", "rmse", "cover", "width", "fixed", "sure", "right")
    for name, found in report["scenarios"].items():
        print(
            f"\n{name}: {found['n']} trajectories, {found['n_with_error']} with an error, {found['n_right_answers']} with a right answer, "
            f"{found['mean_steps']:.1f} steps; pilot of adaptive: {found['pilot_tokens']:,} tokens"
        )
        if found["judges"]:
            show_judges(found["judges"])
        if not found["rows"]:
            continue
        print(f"{'labeler':30s} {'setting':24s} {'first error [95 %]':>22s} " + " ".join(f"{head:>6s}" for head in heads) + f" {'tokens':>7s}")
        for row in shown(found["rows"]):
            accuracy = row["first_error_accuracy"]
            interval = f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
            cells = [row["step_accuracy"], row["value_rmse"], row["coverage"]["value"], row["width"], row.get("fixed_n_width"), row["stated"], row["earned"]]
            numbers = " ".join(f"{'' if cell is None else f'{cell:.3f}':>6s}" for cell in cells)
            print(f"{row['family']:30s} {row['setting']:24s} {interval:>22s} {numbers} {row['tokens']:7.0f}")
        if found["against"]:
            print("\nto be as accurate, adaptive labeling needs, its pilot included,")
        for row in found["against"]:
            ratio = (
                f"{row['ratio'] or 0:.1f} times fewer tokens ({row['adaptive_tokens'] or 0:.0f} for {row['tokens']:.0f})"
                if row["ratio"]
                else "never as accurate"
            )
            print(f"  {row['family']:30s} {row['what']:12s} {row['setting']:24s} {row['accuracy']:.3f}: {ratio}")
    _show_search(report["search_cost"])


def _show_search(found: dict[str, list[dict[str, Any]]]) -> None:
    if found:
        print("\nrollouts until the first error is found (share of first errors found), by number of steps")
    for name, rows in found.items():
        print(f"  {name:22s} " + "  ".join(f"{row['n_steps']:3d}: {row['rollouts']:5.1f}, {row['tokens']:6.0f} tokens ({row['exact']:.2f})" for row in rows))


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of rows that differ in their threshold alone, threshold 0 and the best."""
    kept = []
    for row in rows:
        same = [one for one in rows if (one["family"], one["setting"].partition(", above")[0]) == (row["family"], row["setting"].partition(", above")[0])]
        best = max(same, key=lambda one: one["first_error_accuracy"]["value"])
        if ", above" not in row["setting"] or row is best:
            kept.append(row)
    return kept


def plot(report: dict[str, Any], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = report["scenarios"]
    columns = min(2, len(found))
    families = list(dict.fromkeys(row["family"] for one in found.values() for row in one["rows"] if row["family"] != "adaptive values"))
    looks = {family: {"color": pyplot.get_cmap("tab20")(index % 20), "marker": "osv^D<>pP*Xh"[index % 12]} for index, family in enumerate(families)}
    looks["adaptive"] = {"color": "black", "marker": "o", "linewidth": 2.5, "zorder": 3}
    figure, axes = pyplot.subplots(math.ceil(len(found) / columns), columns, figsize=(7.5 * columns, 5.2 * math.ceil(len(found) / columns)), squeeze=False)
    for axis, (name, one) in zip(axes.flat, found.items(), strict=False):
        for family in dict.fromkeys(row["family"] for row in one["rows"] if row["family"] != "adaptive values"):
            rows = sorted((row for row in one["rows"] if row["family"] == family), key=lambda row: row["tokens"])
            best: list[dict[str, Any]] = []
            for row in rows:  # the best threshold of every cost
                if best and math.isclose(best[-1]["tokens"], row["tokens"]):
                    best[-1] = max(best[-1], row, key=lambda one: one["first_error_accuracy"]["value"])
                else:
                    best.append(row)
            x, y = [row["tokens"] for row in best], [row["first_error_accuracy"]["value"] for row in best]
            axis.plot(x, y, markersize=5, label=family, **{"linewidth": 1.0, **looks[family]})
        axis.set_xscale("log")
        axis.set_xlabel("policy tokens a trajectory")
        axis.set_ylabel("first-error accuracy")
        axis.set_title(name)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(found) :]:
        axis.remove()
    figure.tight_layout()
    handles = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
