"""Sums of evaluators: value plus progress under a prover, and process plus value; their limits and what they gain."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest

from stepward.core import InputError, Problem, RequestFailed, Sampling, Search, SearchResult, StepScores, Trajectory, canonical_json, metered
from stepward.labeling.estimators import best_of_value
from stepward.search.beam import StepBeam
from stepward.search.evaluator import Graded, Scored
from stepward.search.load import load_search
from stepward.search.mixture import BidirectionalBeam, Mix, mid_ranks
from stepward.search.progress import Progress, ProgressBeam
from stepward.search.workbench import Workbench
from stepward.testing import check_search
from stepward.testing.planted import PlantedPolicy, PlantedTree

WORLD = PlantedTree()
POLICY = PlantedPolicy()
PROBLEMS = [WORLD.random(seed, depth=4, branching=3) for seed in range(20)]


@dataclass(frozen=True, kw_only=True)
class Told:
    """Step scores by a formula of each prefix."""

    name: str
    formula: Any
    scale: Any = "probability"
    granularity: Any = "step"
    fail_every: int = 0

    @property
    def fingerprint(self) -> str:
        return f"told:{self.name}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        if self.fail_every and int(trajectory.key[:6], 16) % self.fail_every == 0:
            raise RequestFailed("no answer")
        return StepScores(np.array([self.formula(prefix) for prefix in trajectory.prefixes()]), scale=self.scale)


def noise(prefix: Trajectory, salt: int = 0) -> float:
    return float(np.random.default_rng([int(prefix.key[:12], 16), salt]).normal())


def close(value: float) -> float:
    return min(1.0, max(0.0, value))


VALUE = Told(name="value", formula=POLICY.value)
BLURRED = Told(name="blurred", formula=lambda prefix: close(POLICY.value(prefix) + 0.2 * noise(prefix)))
OTHER = Told(name="other", formula=lambda prefix: close(POLICY.value(prefix) + 0.2 * noise(prefix, 1)))


def results(search: Search, problems: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def shapes(found: list[SearchResult]) -> list[str]:
    """Everything but the step scores."""
    return [
        canonical_json([[[node.trajectory.key, node.dropped] for node in result.tree], None if result.chosen is None else result.chosen.key])
        for result in found
    ]


def beam(kind: Any, **changes: Any) -> Any:
    return kind(**{"policy": POLICY, "environment": WORLD, "model": BLURRED, "width": 2, "expansions": 3, "aggregation": "last"} | changes)


# Mix


def test_a_mix_is_the_weighted_sum_of_its_parts() -> None:
    mix = Mix(parts=((2.0, Scored(model=VALUE, aggregation="last")), (-0.5, Scored(model=OTHER, aggregation="min"))))
    for node, value in judged(mix):
        expected = 2.0 * POLICY.value(node) - 0.5 * min(OTHER.formula(prefix) for prefix in node.prefixes())
        assert value == pytest.approx(expected)


def judged(evaluator: Any, n: int = 9) -> list[tuple[Trajectory, float]]:
    """First steps of one problem, and their second ones, with the evaluator's value."""

    async def run() -> list[tuple[Trajectory, float]]:
        with metered() as ledger:
            bench = Workbench(PROBLEMS[0], POLICY, WORLD, sampling=Sampling(), ledger=ledger)
            first = await bench.expand([bench.root], n)
            nodes = [*first, *await bench.expand(first[:3], 2)]
            await evaluator.evaluate(bench, nodes)
            return [(node.trajectory, node.value) for node in nodes]

    return asyncio.run(run())


def test_ranks_do_not_change_under_increasing_maps_of_a_part() -> None:
    odd = Told(name="odd", formula=lambda prefix: 40.0 * BLURRED.formula(prefix) ** 3 - 7.0, scale="logit")
    plain, mapped = (
        judged(Mix(parts=((1.0, Scored(model=model, aggregation="last")), (0.7, Scored(model=OTHER, aggregation="last"))), normalise="rank"))
        for model in (BLURRED, odd)
    )
    assert plain == mapped


def test_mid_ranks() -> None:
    assert mid_ranks([0.3, 9.0, 0.3, -1.0]) == [0.5, 1.0, 0.5, 0.0]
    assert mid_ranks([5.0]) == [0.5]
    known = mid_ranks([2.0, math.nan, 1.0])
    assert (known[0], known[2]) == (1.0, 0.0)
    assert math.isnan(known[1])
    assert mid_ranks([4.0, 4.0, 4.0]) == [0.5, 0.5, 0.5]


def test_a_node_that_one_part_cannot_value_is_unknown_with_its_reason() -> None:
    half = Told(name="half", formula=POLICY.value, fail_every=2)

    async def run() -> list[Any]:
        with metered() as ledger:
            bench = Workbench(PROBLEMS[0], POLICY, WORLD, sampling=Sampling(), ledger=ledger)
            nodes = await bench.expand([bench.root], 3)
            nodes += await bench.expand(nodes, 3)
            await Mix(parts=((1.0, Scored(model=VALUE)), (1.0, Scored(model=half)))).evaluate(bench, nodes)
            return list(nodes)

    nodes = asyncio.run(run())
    assert {node.reason for node in nodes} == {None, "scoring failed: no answer"}
    assert all(math.isnan(node.value) == (int(node.trajectory.key[:6], 16) % 2 == 0) for node in nodes)


def test_values_on_different_scales_are_not_added() -> None:
    logit = Told(name="logit", formula=POLICY.value, scale="logit")
    with pytest.raises(InputError, match=r"calibrate the models, or take normalise='rank'"):
        Mix(parts=((1.0, Scored(model=VALUE)), (1.0, Scored(model=logit))))
    Mix(parts=((1.0, Scored(model=VALUE)), (1.0, Scored(model=logit))), normalise="rank")
    Mix(parts=((1.0, Scored(model=VALUE)), (0.0, Scored(model=logit))))  # not asked
    with pytest.raises(InputError, match="finite weights"):
        Mix(parts=((0.0, Graded()),))
    with pytest.raises(InputError, match="finite weights"):
        Mix(parts=((math.inf, Graded()),))


# BiRM


def test_beta_goes_from_the_value_beam_to_the_process_beam() -> None:
    """beta 0 orders by the value model's last score, beta infinite by the process model's mean."""
    process, value = BLURRED, OTHER
    for beta, single, aggregation in ((0.0, value, "last"), (math.inf, process, "mean")):
        both = beam(BidirectionalBeam, model=process, value_model=value, beta=beta, aggregation="mean")
        assert shapes(results(both, PROBLEMS)) == shapes(results(beam(StepBeam, model=single, aggregation=aggregation), PROBLEMS))
        assert both.fingerprint


def test_a_large_beta_is_near_infinity() -> None:
    almost, limit = (results(beam(BidirectionalBeam, value_model=OTHER, beta=beta), PROBLEMS) for beta in (1e9, math.inf))
    assert shapes(almost) == shapes(limit)


def two_halves(seed: int) -> tuple[Problem, dict[tuple[int, ...], float], dict[tuple[int, ...], float]]:
    """A tree whose reward is half how good the three branches taken are, and half how good the leaf is; with the first by branch, the second by prefix."""
    numbers = np.random.default_rng(seed)
    good = {path: float(numbers.random()) for depth in (1, 2, 3) for path in product(range(3), repeat=depth)}
    leaf = {path: float(numbers.random()) for path in product(range(3), repeat=3)}
    ahead = {path[:depth]: float(np.mean([leaf[end] for end in leaf if end[:depth] == path[:depth]])) for path in leaf for depth in (1, 2, 3)}

    def worth(path: tuple[int, ...]) -> float:
        return float(np.mean([good[path[:depth]] for depth in (1, 2, 3)]) + leaf[path]) / 2

    return WORLD.problem([[[worth((i, j, k)) for k in range(3)] for j in range(3)] for i in range(3)], name=str(seed)), good, ahead


def test_looking_back_and_ahead_beats_either() -> None:
    """As in A*: one model sees only what has been done well, the other only what lies ahead; their sum sees both. Reward of the answer, paired, 95 %."""
    trees = [two_halves(seed) for seed in range(200)]
    known = {problem.id: (good, ahead) for problem, good, ahead in trees}

    def read(part: int) -> Any:
        return lambda prefix: known[prefix.problem.id][part][tuple(int(step.text.split()[-1]) for step in prefix.steps)]

    done, ahead = (Told(name=name, formula=read(part)) for part, name in enumerate(("done", "ahead")))
    both, back, front = (
        reward(
            results(
                beam(BidirectionalBeam, model=done, value_model=ahead, beta=beta, aggregation="mean", width=1, policy=PlantedPolicy(draws="in turn")),
                [tree[0] for tree in trees],
            )
        )
        for beta in (1.0, math.inf, 0.0)
    )
    for single in (back, front):
        difference = both - single
        assert difference.mean() - 1.96 * difference.std(ddof=1) / math.sqrt(len(difference)) > 0


def reward(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    return np.array([WORLD.leaves(result.tree.problem)[WORLD.answer(result.chosen) or ""] for result in found if result.chosen is not None])


def test_birm_keeps_its_promises() -> None:
    search = load_search("birm", policy=POLICY, environment=WORLD, model=BLURRED, n=4, width=2, settings={"beta": "1.5"}, parts={"value_model": OTHER})
    check_search(search, PROBLEMS[:3])
    with pytest.raises(InputError, match="beta"):
        beam(BidirectionalBeam, value_model=OTHER, beta=-1.0)


# Progress under a prover


def test_without_alpha_progress_is_the_value_beam() -> None:
    plain, progress = results(beam(StepBeam), PROBLEMS), results(beam(ProgressBeam, alpha=0.0, prover=OTHER), PROBLEMS)
    assert shapes(plain) == shapes(progress)
    assert [a.usage for a in plain] == [b.usage for b in progress], "a prover of weight 0 is not asked"


def test_under_the_policy_itself_siblings_are_ordered_as_by_value_and_others_are_not() -> None:
    judge = Progress(model=VALUE, alpha=2.0, best_of=1)
    found = [(trajectory, POLICY.value(trajectory), key) for trajectory, key in judged(judge)]
    second = [one for one in found if len(one[0]) == 2]
    siblings = [(a, b) for a in second for b in second if a[0].prefix(1).key == b[0].prefix(1).key and a[1] < b[1]]
    assert siblings
    assert all(a[2] < b[2] for a, b in siblings)
    others = [(a, b) for a in found for b in found if a[1] < b[1] and len(a[0]) != len(b[0])]
    assert any(a[2] > b[2] for a, b in others)


def test_the_advantage_is_the_difference_of_the_provers_values() -> None:
    """A = B(V after) - B(V before), B the best of 3; before the first step V is the mean of the first steps' values."""

    def best(value: float) -> float:
        return 1 - (1 - value) ** 3

    found = judged(Progress(model=BLURRED, prover=VALUE, alpha=0.5, best_of=3))
    root = np.mean([POLICY.value(trajectory) for trajectory, _ in found if len(trajectory) == 1])
    for trajectory, key in found:
        before = POLICY.value(trajectory.prefix(1)) if len(trajectory) == 2 else root
        assert key == pytest.approx(BLURRED.formula(trajectory) + 0.5 * (best(POLICY.value(trajectory)) - best(float(before))))


def test_a_model_of_advantages_is_taken_at_its_word() -> None:
    gains = Told(name="gains", formula=lambda prefix: 0.1 * noise(prefix, 4), scale="advantage")
    for trajectory, key in judged(Progress(model=BLURRED, prover=gains, alpha=0.5)):
        assert key == pytest.approx(BLURRED.formula(trajectory) + 0.05 * noise(trajectory, 4))


def test_progress_of_no_step_is_nothing() -> None:
    """A node that max_steps cut off has the steps of its parent."""
    search = beam(ProgressBeam, model=VALUE, alpha=0.5, best_of=1, sampling=Sampling(max_steps=2))
    for result in results(search, PROBLEMS[:3]):
        assert result.chosen is None or result.chosen.finished
        assert all(len(node.trajectory) <= 2 for node in result.tree)


def test_a_prover_that_always_or_never_succeeds_says_nothing() -> None:
    """K to infinity, or a hopeless prover: A is 0 everywhere, and the search is the value beam."""
    plain = shapes(results(beam(StepBeam), PROBLEMS))
    for sure in (0.0, 1.0):
        prover = Told(name=f"sure {sure}", formula=lambda prefix, sure=sure: sure)
        assert shapes(results(beam(ProgressBeam, prover=prover, alpha=0.5), PROBLEMS)) == plain


def test_progress_beams_keep_their_promises() -> None:
    check_search(load_search("progress-beam", policy=POLICY, environment=WORLD, model=BLURRED, n=4, width=2), PROBLEMS[:3])
    assert beam(ProgressBeam).evaluator.best_of == 4
    assert beam(ProgressBeam, prover=OTHER).evaluator.best_of == 1


def test_mistakes_are_refused() -> None:
    logit = Told(name="logit", formula=POLICY.value, scale="logit")
    gains = Told(name="gains", formula=POLICY.value, scale="advantage")
    for changes, words in (
        ({"model": logit}, "calibrate"),
        ({"prover": logit}, "differences of logits"),
        ({"prover": gains, "best_of": 4}, "best_of"),
        ({"best_of": 0}, "best_of"),
        ({"alpha": math.inf}, "alpha"),
    ):
        with pytest.raises(InputError, match=words):
            beam(ProgressBeam, **changes)


def value_after_tilt(problem: Problem, best_of: int, path: tuple[int, ...] = (), *, alpha: float = 0.5, gamma: float = 2.0) -> float:
    """V of pi' proportional to pi exp(gamma (Q + alpha A)) at a fork, exactly; A under the best of `best_of` tries of pi, 0 for best_of = 0."""
    here = WORLD.walk(problem, path)
    if here.ended:
        return POLICY.value(here)
    q = np.array([POLICY.value(WORLD.walk(problem, (*path, branch))) for branch in range(3)])
    gain = best_of_value(q, best_of) - best_of_value(POLICY.value(here), best_of)
    law = np.exp(gamma * (q + alpha * gain))
    after = [value_after_tilt(problem, best_of, (*path, branch), alpha=alpha, gamma=gamma) for branch in range(3)]
    return float(law @ after / law.sum())


def test_a_policy_gains_most_from_a_prover_of_middling_strength() -> None:
    """Exact mean value after one tilt of the policy towards Q + A / 2, in trees without hopeless prefixes: the gain rises with the prover, then falls to none.

    Where some prefixes are hopeless it need not fall: the best of ever more tries then tells these from the others, and A does not vanish.
    """
    numbers = np.random.default_rng(0)
    problems = [WORLD.problem(np.where(numbers.random((3, 3, 3)) < 0.06, 0.9, 0.05).tolist(), name=str(tree)) for tree in range(30)]
    gains = {k: float(np.mean([value_after_tilt(problem, k) for problem in problems])) for k in (0, 1, 4, 16, 10_000)}
    assert gains[0] < gains[1] < gains[4]
    assert gains[4] > gains[16] > gains[10_000]
    assert gains[10_000] == pytest.approx(gains[0], abs=1e-6)


def test_a_distinguishing_prover_beats_the_values_alone_at_equal_policy_tokens() -> None:
    """Both models err by 0.1 on open prefixes. The best of 4 tries of a weak policy spreads small values apart, so its errors weigh less. Paired, 95 %."""
    problems = [WORLD.random(seed, depth=4, branching=3, right=0.06) for seed in range(100)]

    def blurred(best_of: int, salt: int) -> Any:
        return lambda prefix: POLICY.value(prefix) if prefix.ended else close(best_of_value(POLICY.value(prefix), best_of) + 0.1 * noise(prefix, salt))

    own, prover = Told(name="own", formula=blurred(1, 0)), Told(name="best of 4", formula=blurred(4, 7))
    plain, progress = results(beam(StepBeam, model=own), problems), results(beam(ProgressBeam, model=own, prover=prover, alpha=0.5), problems)
    assert [a.usage.policy_tokens for a in plain] == [b.usage.policy_tokens for b in progress]
    difference = reward(progress) - reward(plain)
    assert difference.mean() - 1.96 * difference.std(ddof=1) / math.sqrt(len(difference)) > 0
