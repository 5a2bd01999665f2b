"""Headline claims about test-time search, in miniature: grade-school problems, the shipped tiny policy, reward models trained here on its own solutions.

Every comparison is paired over the same problems, with a 95 % bootstrap interval. Compute is FLOPs of policy and reward model together as really spent with
caches (`Ledger.paid` of fresh models and no journal), so that a prefix that is shared is paid for once on both sides. Nothing is tuned on the test problems.

    python benchmarks/search_claims.py --n 200 --json
    python benchmarks/search_claims.py --only early-rejection,progress --n 60

The reward models are kept in --work: one trained on soft Monte-Carlo values, the same for a prover (best of 4), and four on hard labels with noise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from stepward.core import Example, Granularity, Policy, Problem, RewardModel, Scale, Search, SearchResult, StepLabels, StepScores, Trajectory, Usage, metered
from stepward.data.store import read_records, write_records
from stepward.engine.concurrency import Failure, run_all
from stepward.environments.episode import grade, solve
from stepward.environments.grade_school import GradeSchool
from stepward.evaluation.statistics import difference_estimate, mean_estimate
from stepward.labeling import MonteCarlo, OracleLabels
from stepward.policies.load import load_policy, tiny_folder
from stepward.rewards.calibration import Calibration, fit, step_pairs
from stepward.rewards.calibration.calibrated import Calibrated
from stepward.rewards.convention import Convention
from stepward.rewards.load import load_reward_model
from stepward.search.adaptive_scaling import AdaptiveBeam, AdaptiveBestOfN
from stepward.search.beam import StepBeam
from stepward.search.dvts import DVTS
from stepward.search.early_rejection import EarlyRejection
from stepward.search.magicore import MAgICoRe
from stepward.search.progress import ProgressBeam
from stepward.search.sampled import BestOfN, Majority, WeightedBestOfN
from stepward.training.config import TrainConfig
from stepward.training.trainer import train

WORLD = GradeSchool.easy()
NOISES = (0.0, 0.15, 0.3, 0.45)
PROVER_TRIES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="test problems")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/search-claims"), help="where trained reward models are kept")
    parser.add_argument("--only", default=",".join(CLAIMS), help=f"of {', '.join(CLAIMS)}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lab = Lab(options.work, list(WORLD.problems(options.seed, options.n, split="test")))
    report: dict[str, Any] = {"benchmark": "search_claims", "n": options.n, "seed": options.seed, "claims": {}}
    for name in options.only.split(","):
        started = time.perf_counter()
        found = CLAIMS[name](lab)
        report["claims"][name] = found | {"wall_s": round(time.perf_counter() - started, 1)}
        if not options.json:
            show(name, found)
    if options.json:
        print(json.dumps(report))


@dataclass(frozen=True)
class Ran:
    """What one strategy did on all problems: right or not (NaN where nothing was chosen), what it cost in all, and its results."""

    right: np.ndarray[Any, Any]
    paid: Usage
    usage: Usage
    results: Sequence[SearchResult]

    def to_json(self) -> dict[str, Any]:
        n = len(self.right)
        return {
            "accuracy": mean_estimate(self.right).to_json(),
            "flops": self.paid.flops / n,
            "policy_tokens": self.usage.policy_tokens / n,
            "reward_tokens": self.paid.reward_tokens / n,
            "n_unanswered": int(np.isnan(self.right).sum()),
        }


@dataclass(frozen=True)
class Lab:
    """Problems, and models that are fresh for every run, so that no run profits from another's caches."""

    work: Path
    problems: Sequence[Problem]

    def run(self, make: Callable[[Policy], Search], problems: Sequence[Problem] | None = None) -> Ran:
        """Search all problems at once. `make` builds the strategy with a fresh policy; models it loads itself."""
        asked = self.problems if problems is None else problems
        strategy = make(load_policy("tiny"))

        async def all_of_them() -> tuple[list[SearchResult], Usage, Usage, list[float]]:
            with metered() as ledger:
                results = await run_all(asked, strategy.search, limit=256)
            failed = next((result for result in results if isinstance(result, Failure)), None)
            if failed is not None:
                raise failed.error
            found = [result for result in results if not isinstance(result, Failure)]
            right = []
            for result in found:
                outcome = None if result.chosen is None else (await grade(WORLD, result.chosen)).value
                right.append(0.0 if outcome is None else outcome)  # no answer is no right answer
            return found, ledger.paid, ledger.usage, right

        results, paid, usage, right = asyncio.run(all_of_them())
        return Ran(np.array(right), paid, usage, results)

    def model(self, name: str) -> RewardModel:
        """A trained reward model, fresh; trained first where it is not there: "value", "prover", or "noise-E"."""
        folder = self.work / name
        if not (folder / "config.json").is_file():
            self._train(name, folder)
        return load_reward_model(f"prm:{folder}")

    def quantiles(self) -> Calibration:
        """Quantiles of the shares of right completions, given the value model's scores, on problems that it was not trained on."""
        model, examples = self.model("value"), self._examples("dev", 60, soft=True)

        async def scored() -> list[StepScores]:
            return list(await asyncio.gather(*(model.score(example.trajectory) for example in examples)))

        pairs = step_pairs(examples, asyncio.run(scored()))
        return fit("quantile", pairs.scores, pairs.targets, scale=pairs.scale, model=model.fingerprint)

    def _train(self, name: str, folder: Path) -> None:
        soft = not name.startswith("noise")
        examples = {split: self._examples(split, n, soft=soft) for split, n in (("train", 400), ("dev", 60))}
        if name == "prover":
            examples = {split: [replace(example, labels=_best_of(example.labels)) for example in found] for split, found in examples.items()}
        if not soft:
            chance, rng = float(name.removeprefix("noise-")), Random(7)
            examples["train"] = [replace(example, labels=_flipped(example.labels, chance, rng)) for example in examples["train"]]
        config = TrainConfig(backbone=str(tiny_folder()), convention=Convention(), epochs=4, lr=3e-4, batch_tokens=1024, eval_every=100, seed=0)
        train(examples["train"], examples["dev"], config, folder)

    def _examples(self, split: str, n: int, *, soft: bool) -> list[Example]:
        """Four solutions each of n problems with labels, kept in the work folder; `soft`: shares of 8 completions, else exact errors."""
        file = self.work / f"{'values' if soft else 'errors'}-{split}.jsonl"
        if file.is_file():
            return list(read_records(file, Example))
        policy = load_policy("tiny")
        labeler = MonteCarlo(policy=policy, environment=WORLD, n=8) if soft else OracleLabels(WORLD)

        async def made() -> list[Example]:
            pools = await asyncio.gather(*(solve(policy, WORLD, problem, 4) for problem in WORLD.problems(0, n, split=split)))
            trajectories = list({trajectory.key: trajectory for pool in pools for trajectory in pool}.values())
            labels = await asyncio.gather(*(labeler.label(trajectory) for trajectory in trajectories))
            return [Example(trajectory, given, source=f"tiny {split}") for trajectory, given in zip(trajectories, labels, strict=True)]

        examples = asyncio.run(made())
        write_records(examples, file)
        return examples


def _best_of(labels: StepLabels) -> StepLabels:
    """The values under a prover that tries PROVER_TRIES times and is told which try was right: 1 - (1 - v)^K."""
    return StepLabels(1.0 - (1.0 - labels.values) ** PROVER_TRIES, semantics="value", reasons=labels.reasons, source={"method": "best of K"})


def _flipped(labels: StepLabels, chance: float, rng: Random) -> StepLabels:
    values = np.array([1.0 - value if rng.random() < chance else value for value in labels.values])
    return StepLabels(values, semantics=labels.semantics, reasons=labels.reasons, source={"method": f"flipped {chance}"})


def against(first: Ran, second: Ran) -> dict[str, Any]:
    """First minus second: accuracy, and the ratio of what they cost."""
    return {
        "difference": difference_estimate(first.right, second.right).to_json(),
        "flops_ratio": second.paid.flops / first.paid.flops,
        "token_ratio": second.usage.policy_tokens / first.usage.policy_tokens,
    }


# The claims


def early_rejection(lab: Lab) -> dict[str, Any]:
    """Beams that judge steps by their first tau tokens lose nothing and cost 1.4 to 9 times fewer FLOPs."""
    common: dict[str, Any] = {"environment": WORLD, "width": 4, "expansions": 4, "aggregation": "last"}
    whole = lab.run(lambda policy: StepBeam(policy=policy, model=lab.model("value"), **common))
    found: dict[str, Any] = {"whole steps": whole.to_json()}
    for tau in (2, 4, 6):  # steps have about 7 tokens
        early = lab.run(lambda policy, tau=tau: EarlyRejection(policy=policy, model=lab.model("value"), tau=tau, **common))
        found[f"tau {tau}"] = early.to_json() | against(early, whole)
    return found


def progress(lab: Lab) -> dict[str, Any]:
    """Value plus progress under a prover beats value alone at equal compute."""
    common: dict[str, Any] = {"environment": WORLD, "width": 4, "expansions": 4, "aggregation": "last"}
    value = lab.run(lambda policy: StepBeam(policy=policy, model=lab.model("value"), **common))
    found: dict[str, Any] = {"value": value.to_json()}
    for alpha in (0.2, 0.5, 1.0):
        own = lab.run(lambda policy, a=alpha: ProgressBeam(policy=policy, model=lab.model("value"), alpha=a, best_of=PROVER_TRIES, **common))
        found[f"best of {PROVER_TRIES}, alpha {alpha}"] = own.to_json() | against(own, value)
    trained = lab.run(lambda policy: ProgressBeam(policy=policy, model=lab.model("value"), prover=lab.model("prover"), alpha=0.5, **common))
    found["trained prover, alpha 0.5"] = trained.to_json() | against(trained, value)
    return found


def refinement(lab: Lab) -> dict[str, Any]:
    """Adaptive refinement with half the samples is as good as self-consistency, or better."""
    found: dict[str, Any] = {}
    for n in (16, 40):
        many = lab.run(lambda policy, n=n: Majority(policy=policy, environment=WORLD, n=n))
        half: dict[str, Any] = {"environment": WORLD, "k": n // 2, "iterations": 3, "criticise_by": "scores", "revise_by": "resume"}
        refined = lab.run(lambda policy, half=half: MAgICoRe(policy=policy, model=lab.model("value"), **half))
        weighted = lab.run(lambda policy, n=n: WeightedBestOfN(policy=policy, environment=WORLD, model=lab.model("value"), n=n // 2, aggregation="product"))
        found[f"majority of {n}"] = many.to_json()
        found[f"weighted vote of {n // 2}"] = weighted.to_json() | against(weighted, many)
        beside = {"difference from weighted": difference_estimate(refined.right, weighted.right).to_json()}
        found[f"refined {n // 2}"] = refined.to_json() | against(refined, many) | beside
    return found


def dvts(lab: Lab) -> dict[str, Any]:
    """Independent subtrees beat one beam at large N, because a beam's answers become all alike; one beam is better at small N."""
    found: dict[str, Any] = {}
    for n in (4, 16, 64):
        common: dict[str, Any] = {"environment": WORLD, "expansions": 4, "aggregation": "last", "answer_by": "vote"}
        beam = lab.run(lambda policy, n=n, common=common: StepBeam(policy=policy, model=lab.model("value"), width=n // 4, **common))
        trees = lab.run(lambda policy, n=n, common=common: DVTS(policy=policy, model=lab.model("value"), groups=n // 4, **common))
        found[f"beam {n}"] = beam.to_json() | {"distinct_answers": distinct_answers(beam)}
        found[f"dvts {n}"] = trees.to_json() | {"distinct_answers": distinct_answers(trees)} | against(trees, beam)
    return found


def adaptive_scaling(lab: Lab) -> dict[str, Any]:
    """As many samples as a calibrated low quantile asks for are as good as a fixed number and cheaper; an overconfident model spends too little and loses."""
    calibration = lab.quantiles()
    found: dict[str, Any] = {}
    fixed = lab.run(lambda policy: BestOfN(policy=policy, environment=WORLD, model=lab.model("value"), n=16, aggregation="last"))
    beam = lab.run(lambda policy: StepBeam(policy=policy, environment=WORLD, model=lab.model("value"), width=4, expansions=4, aggregation="last"))
    found["best of 16"], found["beam 4 x 4"] = fixed.to_json(), beam.to_json()
    models: dict[str, tuple[Callable[[], RewardModel], Any]] = {
        "calibrated, 0.1 quantile": (lambda: Calibrated(lab.model("value"), calibration), "low"),
        "calibrated, median": (lambda: Calibrated(lab.model("value"), calibration), "value"),
        "as trained": (lambda: lab.model("value"), "value"),
        "overconfident": (lambda: Overconfident(lab.model("value")), "value"),
    }
    for name, (model, bound) in models.items():
        few = lab.run(lambda policy, m=model, b=bound: AdaptiveBestOfN(policy=policy, environment=WORLD, model=m(), n_max=16, probes=2, bound=b))
        found[f"best-of-n, {name}"] = few.to_json() | against(few, fixed)
        some = lab.run(lambda policy, m=model, b=bound: AdaptiveBeam(policy=policy, environment=WORLD, model=m(), width=4, expansions=4, bound=b))
        found[f"beam, {name}"] = some.to_json() | against(some, beam)
    return found


@dataclass(frozen=True)
class Overconfident:
    """A model that takes every prefix for much better than it is: v becomes v^(1/4), which leaves the order as it was."""

    model: RewardModel

    @property
    def fingerprint(self) -> str:
        return f"overconfident:{self.model.fingerprint}"

    @property
    def granularity(self) -> Granularity:
        return self.model.granularity

    @property
    def scale(self) -> Scale:
        return self.model.scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        scores = await self.model.score(trajectory)
        return replace(scores, values=scores.values**0.25)


def noise(lab: Lab) -> dict[str, Any]:
    """The noisier the labels that a reward model learned from, the less its choice is worth; the majority needs no reward model."""
    found: dict[str, Any] = {}
    majority = lab.run(lambda policy: Majority(policy=policy, environment=WORLD, n=16))
    found["majority"] = majority.to_json()
    for chance in NOISES:
        best = lab.run(lambda policy, e=chance: BestOfN(policy=policy, environment=WORLD, model=lab.model(f"noise-{e}"), n=16, aggregation="min"))
        weighted = lab.run(lambda policy, e=chance: WeightedBestOfN(policy=policy, environment=WORLD, model=lab.model(f"noise-{e}"), n=16, aggregation="min"))
        found[f"best of 16, {chance:.0%} of labels wrong"] = best.to_json() | against(best, majority)
        found[f"weighted, {chance:.0%} of labels wrong"] = weighted.to_json() | against(weighted, majority)
    return found


def distinct_answers(ran: Ran) -> float:
    """Different answers among the ends of a tree, on average."""
    return float(np.mean([len({WORLD.answer(end.trajectory) for end in result.tree.ends} - {None}) for result in ran.results]))


CLAIMS: dict[str, Callable[[Lab], dict[str, Any]]] = {
    "early-rejection": early_rejection,
    "progress": progress,
    "refinement": refinement,
    "dvts": dvts,
    "adaptive-scaling": adaptive_scaling,
    "noise": noise,
}


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}: {(CLAIMS[name].__doc__ or '').strip()}")
    for row, values in found.items():
        right = values["accuracy"]
        accuracy = f"{100 * right['value']:5.1f} [{100 * right['low']:.1f}, {100 * right['high']:.1f}] %"
        line = f"  {row:34s} {accuracy}  {values['flops'] / 1e6:8.0f} MFLOP  {values['policy_tokens']:7.0f} tokens"
        if "difference" in values:
            gap = values["difference"]
            line += f"  {100 * gap['value']:+5.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}] points at 1/{values['flops_ratio']:.2f} of the FLOPs"
        if "difference from weighted" in values:
            gap = values["difference from weighted"]
            line += f"; {100 * gap['value']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}] from the weighted vote"
        if "distinct_answers" in values:
            line += f"  {values['distinct_answers']:.2f} answers"
        print(line, flush=True)


if __name__ == "__main__":
    main()
