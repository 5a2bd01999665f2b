"""OmegaPRM: where its search lands, with which chance and at which cost, against closed forms."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from stepward.core import DEFAULT_SAMPLING, InputError, Outcome, RequestFailed, Sampling, StepLabels, Trajectory, Until
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy
from stepward.environments.episode import complete, grade, solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.trees import CurtailedOmegaPRM, Growth, OmegaPRM
from stepward.labeling.trees.harvest import ELSEWHERE
from stepward.labeling.trees.locate import locate
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler
from stepward.testing.ladder import Climber, Ladder
from stepward.testing.search_cost import search_cost

LADDER = Ladder()
WORLD = GradeSchool()
FINAL = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.0, lucky=0.0)  # errors are never repaired
MANY = 1_000_000  # ways to write a rung: no rollout passes through a given solution


def halving(low: int, high: int, first_bad: int) -> Iterator[int]:
    """The places at which a halving search that is never misled looks."""
    while high - low > 1:
        middle = (low + high + 1) // 2
        yield middle
        low, high = (low, middle) if middle >= first_bad else (middle, high)


def labelled(labeler: OmegaPRM, cases: list[Trajectory]) -> list[StepLabels]:
    async def run() -> list[StepLabels]:
        return list(await asyncio.gather(*(labeler.label(case) for case in cases)))

    return asyncio.run(run())


def wrong_ladders(n_steps: int, n: int, name: str, *, route: int = -1) -> list[tuple[Trajectory, int]]:
    """Wrong solutions of one length, their first errors (0-based) spread over all steps."""
    return [(LADDER.wrong_solution(LADDER.problem(n_steps, f"{name}/{i}"), i % n_steps, route=route), i % n_steps) for i in range(n)]


# locate


def test_halving_finds_every_first_bad_place_in_logarithmically_many_probes() -> None:
    for high in range(1, 40):
        for first in range(1, high + 1):

            async def probe(place: int, first: int = first) -> bool:
                return place < first

            found = asyncio.run(locate(probe, 0, high))
            assert (found.low, found.high) == (first - 1, first)
            assert len(found.probed) <= math.ceil(math.log2(high)) if high > 1 else not found.probed
            assert list(found.probed) == list(halving(0, high, first))


def test_one_false_zero_moves_the_cut_for_good_and_a_confirmation_moves_it_back() -> None:
    """Truth: bad from 14 on. The probe at 8 is wrong once; so are those at 4 and 6, in the second case."""
    for lies in ({8}, {8, 4, 6}, {8, 12, 13}):

        async def probe(place: int, lies: set[int] = lies) -> bool:
            return place < 14 and place not in lies

        async def truth(place: int) -> bool:
            return place < 14

        misled = asyncio.run(locate(probe, 0, 16))
        assert misled.high < 14
        found = asyncio.run(locate(probe, 0, 16, confirm=truth))
        assert (found.low, found.high) == (13, 14)


def test_a_probe_without_an_answer_leaves_the_places_between_open() -> None:
    async def probe(place: int) -> bool | None:
        return None if place == 6 else place < 7

    found = asyncio.run(locate(probe, 0, 8))
    assert (found.low, found.high, found.failed) == (4, 8, True)


# label


def test_the_cut_is_right_with_the_stated_chance_when_errors_are_never_repaired() -> None:
    """P(right) = prod over probed t left of the error of 1 - (1 - V_t)^n; at the very first step the problem itself must be solved too."""
    n_steps, rollouts, clean = 8, 2, 0.4
    cases = wrong_ladders(n_steps, 800, "chance")
    labels = labelled(OmegaPRM(policy=Climber(clean=clean, routes=MANY), environment=LADDER, rollouts=rollouts), [case for case, _ in cases])
    passes = 1 - (1 - clean) ** rollouts
    chance = [passes ** max(1 if k == 0 else 0, sum(t <= k for t in halving(0, n_steps, k + 1))) for _, k in cases]
    right = [given.first_error == k for given, (_, k) in zip(labels, cases, strict=True)]
    se = math.sqrt(sum(p * (1 - p) for p in chance)) / len(cases)
    assert abs(np.mean(right) - np.mean(chance)) < 3 * se, f"{np.mean(right):.4f} right, {np.mean(chance):.4f} expected, standard error {se:.4f}"
    for k in range(n_steps):
        at = [(r, p) for r, p, (_, first) in zip(right, chance, cases, strict=True) if first == k]
        assert abs(sum(r for r, _ in at) - sum(p for _, p in at)) < 4 * math.sqrt(sum(p * (1 - p) for _, p in at))


def test_the_same_holds_for_a_solver_of_word_problems_with_exact_values() -> None:
    rollouts, rows = 2, []
    for seed in range(3):
        wrong = []
        for problem in WORLD.problems(seed, 140):
            (solution,) = asyncio.run(solve(FINAL, WORLD, problem, 1, sampling=Sampling(seed=100 + seed)))
            if solution.outcome is not None and solution.outcome.value == 0.0:
                wrong.append(solution)
        labels = labelled(OmegaPRM(policy=FINAL, environment=WORLD, rollouts=rollouts, sampling=Sampling(seed=seed)), wrong)
        for solution, given in zip(wrong, labels, strict=True):
            values = [FINAL.value(solution.prefix(t)) for t in range(len(solution) + 1)]
            k = values.index(0.0)
            assert not any(values[k:]), "errors are final here"
            looked = [t for t in halving(0, len(solution), k) if t < k] or ([0] if k == 1 and len(solution) > 1 else [])
            rows.append((given.first_error == k - 1, math.prod(1 - (1 - values[t]) ** rollouts for t in looked)))
    right, chance = np.array(rows, dtype=float).T
    assert len(rows) > 180
    assert abs((right - chance).mean()) < 3 * math.sqrt((chance * (1 - chance)).sum()) / len(rows)


def test_search_cost_grows_with_the_logarithm_of_the_number_of_steps() -> None:
    """Doubling the steps adds one probe of 8 rollouts, where Monte-Carlo on every step doubles; 4 to 64 steps, reproducibly."""

    def make(policy, environment, sampling):  # type: ignore[no-untyped-def]
        return OmegaPRM(policy=policy, environment=environment, sampling=sampling)

    rows = asyncio.run(search_cost(make, [4, 8, 16, 32, 64], n=32))
    costs = [row.rollouts for row in rows]
    added = np.diff(costs)
    assert np.allclose(added, 8, atol=1.0), f"rollouts {costs}: each doubling must add about 8"
    assert costs[-1] < 8 * (math.log2(64) + 1)
    assert all(row.exact > 0.9 for row in rows)
    assert rows[:2] == asyncio.run(search_cost(make, [4, 8], n=32))


def test_values_of_probed_prefixes_are_unbiased_whatever_the_search_did() -> None:
    policy = Climber(clean=0.7, repair=0.2, slip=0.05, routes=3)
    for labeler in (
        OmegaPRM(policy=policy, environment=LADDER, rollouts=3),
        OmegaPRM(policy=policy, environment=LADDER, rollouts=3, confirm=4),
        OmegaPRM(policy=policy, environment=LADDER, rollouts=3, evidence="passing"),
    ):
        cases = [case for case, _ in wrong_ladders(6, 450, "unbiased", route=0)]
        rows = [
            (given.values[t], policy.value(case.prefix(t + 1)))
            for case, given in zip(cases, labelled(labeler, cases), strict=True)
            for t, count in enumerate(given.counts)
            if count is not None
        ]
        assert len(rows) > 800
        value, exact = np.array(rows).T
        se = math.sqrt((exact * (1 - exact) / 3).sum()) / len(rows)
        assert abs((value - exact).mean()) < 3 * se, f"bias {(value - exact).mean():.4f}, standard error {se:.4f}"


def test_steps_that_the_search_did_not_need_have_hard_labels_but_no_value() -> None:
    case, k = wrong_ladders(8, 8, "shape")[5]
    (given,) = labelled(OmegaPRM(policy=Climber(clean=0.95, routes=MANY), environment=LADDER), [case])
    assert given.first_error == k == 5
    assert given.hard == (True,) * 5 + (False,) * 3
    probed = [t for t, count in enumerate(given.counts) if count is not None]
    assert probed == sorted(t - 1 for t in halving(0, 8, k + 1))
    for t, reason in enumerate(given.reasons):
        assert (reason is None) == (t in probed or t == 7)
        assert reason is None or reason.startswith("abstained")
    assert given.values[7] == 0.0
    assert given.counts[7] is None, "the last step is graded"


def test_a_right_solution_is_all_good_and_costs_nothing() -> None:
    problem = LADDER.problem(5)
    right = next(end for end in asyncio.run(complete(Climber(clean=0.9), LADDER, Trajectory(problem), 4)) if end.steps[-1].text == "yes")
    for labeler in (OmegaPRM, CurtailedOmegaPRM):
        (given,) = labelled(labeler(policy=Climber(clean=0.9), environment=LADDER), [right])
        assert given.hard == (True,) * 5
        assert given.first_error == -1
        assert given.usage.policy_tokens == 0


def test_an_open_prefix_is_searched_only_if_its_end_cannot_be_finished_right() -> None:
    labeler = OmegaPRM(policy=Climber(clean=0.9, routes=MANY), environment=LADDER)
    case, _ = wrong_ladders(8, 8, "open")[4]
    good, bad = labelled(labeler, [case.prefix(4), case.prefix(6)])
    assert good.hard == (True,) * 4
    assert good.first_error == -1
    assert bad.hard == (True,) * 4 + (False,) * 2


def test_zeros_of_a_problem_that_is_never_solved_say_nothing() -> None:
    case, _ = wrong_ladders(6, 6, "hopeless")[3]
    for labeler in (OmegaPRM, CurtailedOmegaPRM):
        (given,) = labelled(labeler(policy=Climber(clean=0.0), environment=LADDER), [case])
        assert given.first_error is None
        assert given.hard[:-1] == (None,) * 5
        assert given.hard[-1] is False, "the end was graded"
        assert all(reason is None or reason.startswith("abstained") for reason in given.reasons)


def test_curtailed_probes_give_the_same_hard_labels_for_less() -> None:
    """Pathwise: the draws are the same and only the first success matters."""
    cases = [case for case, _ in wrong_ladders(16, 200, "curtailed")]
    policy = Climber(clean=0.35, repair=0.03, routes=MANY)
    fixed = labelled(OmegaPRM(policy=policy, environment=LADDER), cases)
    curtailed = labelled(CurtailedOmegaPRM(policy=policy, environment=LADDER), cases)
    assert [given.hard for given in curtailed] == [given.hard for given in fixed]
    spent, saved = (sum(given.usage.policy_tokens for given in labels) for labels in (fixed, curtailed))
    assert saved < 0.8 * spent
    assert all(set(given.values[~np.isnan(given.values)]) <= {0.0, 1.0} for given in curtailed)
    assert {given.semantics for given in curtailed} == {"prefix"}


def test_a_curtailed_probe_costs_what_the_geometric_law_says() -> None:
    """E[draws] = (1 - (1 - V)^n)/V at a prefix of value V: two steps, the error in the second, so that one prefix is probed."""
    for clean, n in ((0.5, 8), (0.2, 8), (0.1, 4)):
        cases = [LADDER.wrong_solution(LADDER.problem(2, f"{clean}/{i}"), 1, route=-1) for i in range(600)]
        given = labelled(CurtailedOmegaPRM(policy=Climber(clean=clean, routes=MANY), environment=LADDER, rollouts=n), cases)
        draws = np.array([labels.counts[0].rollouts for labels in given if labels.counts[0] is not None], dtype=float)
        expected = (1 - (1 - clean) ** n) / clean
        assert abs(draws.mean() - expected) < 3 * draws.std() / math.sqrt(len(draws))


def test_confirmation_removes_most_misplaced_cuts_where_errors_are_final() -> None:
    cases = wrong_ladders(16, 128, "confirm")
    policy = Climber(clean=0.2, routes=MANY)

    def exact(labeler: OmegaPRM) -> tuple[float, float]:
        given = labelled(labeler, [case for case, _ in cases])
        return float(np.mean([labels.first_error == k for labels, (_, k) in zip(given, cases, strict=True)])), sum(g.usage.policy_tokens for g in given)

    plain, _ = exact(OmegaPRM(policy=policy, environment=LADDER, rollouts=8))
    confirmed, spent = exact(OmegaPRM(policy=policy, environment=LADDER, rollouts=8, confirm=16))
    doubled, more = exact(OmegaPRM(policy=policy, environment=LADDER, rollouts=16))
    assert confirmed > plain + 0.08
    assert confirmed > doubled - 0.02
    assert spent < more


def test_passing_rollouts_settle_probes_for_nothing_where_texts_coincide() -> None:
    """One way to write a rung: completions of early prefixes run through the given solution, and their successes speak for it."""
    cases = wrong_ladders(32, 64, "passing", route=0)
    policy = Climber(clean=0.5)
    own = labelled(CurtailedOmegaPRM(policy=policy, environment=LADDER), [case for case, _ in cases])
    passing = labelled(CurtailedOmegaPRM(policy=policy, environment=LADDER, evidence="passing"), [case for case, _ in cases])
    assert sum(given.usage.policy_tokens for given in passing) < sum(given.usage.policy_tokens for given in own)
    shares = [np.mean([given.first_error == k for given, (_, k) in zip(labels, cases, strict=True)]) for labels in (own, passing)]
    assert shares[1] >= shares[0] > 0.9


def test_a_relative_bar_finds_errors_that_the_policy_can_repair() -> None:
    """With repairs, MC > 0 takes most wrong prefixes for good ones; half of the problem's own share does not."""
    cases = wrong_ladders(8, 160, "repair")
    policy = Climber(clean=0.8, repair=0.2, routes=MANY)

    def exact(**settings: float) -> float:
        given = labelled(OmegaPRM(policy=policy, environment=LADDER, rollouts=16, **settings), [case for case, _ in cases])  # type: ignore[arg-type]
        return float(np.mean([labels.first_error == k for labels, (_, k) in zip(given, cases, strict=True)]))

    assert exact() < 0.5
    assert exact(relative=0.5) > 0.8


@dataclass(frozen=True)
class Failing:
    """A policy whose requests fail at prefixes of certain lengths."""

    policy: Climber
    lengths: frozenset[int]
    fingerprint: str = "failing"

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        if len(prefix) in self.lengths:
            raise RequestFailed("the server is gone")
        return await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_a_failed_probe_leaves_the_steps_between_undecided() -> None:
    case, k = wrong_ladders(8, 8, "failing")[5]
    for labeler in (OmegaPRM, CurtailedOmegaPRM):
        (given,) = labelled(labeler(policy=Failing(Climber(clean=0.9, routes=MANY), frozenset({6})), environment=LADDER), [case])
        assert k == 5
        assert given.first_error is None
        assert given.hard == (True,) * 4 + (None,) * 3 + (False,)
        assert "the server is gone" in (given.reasons[5] or "")
        assert not (given.reasons[5] or "").startswith("abstained"), "a rerun should try again"
    (dead,) = labelled(OmegaPRM(policy=Failing(Climber(), frozenset(range(9))), environment=LADDER), [case])
    assert dead.hard == (None,) * 7 + (False,)


def test_a_solution_that_could_not_be_graded_is_searched_from_its_last_open_prefix() -> None:
    case, k = wrong_ladders(8, 8, "ungraded")[3]
    cut = Trajectory(case.problem, case.steps, truncated=True, outcome=Outcome.unscored("cut off"))
    (given,) = labelled(OmegaPRM(policy=Climber(clean=0.95, routes=MANY), environment=LADDER), [cut])
    assert given.first_error == k
    assert given.hard[-1] is None
    assert given.reasons[-1] == "cut off"


# grow


def grown(labeler: OmegaPRM, n_steps: int = 10, name: str = "") -> Growth:
    return asyncio.run(labeler.grow(LADDER.problem(n_steps, name)))


SLIPPING = Climber(clean=0.9, slip=0.1, repair=0.02, routes=2)


def test_every_probed_prefix_is_labelled_once_and_its_share_can_be_drawn_again() -> None:
    """The label of every step is the share of right ones among draws 0 to k - 1 from that very prefix."""
    for labeler in (OmegaPRM(policy=SLIPPING, environment=LADDER, searches=12), OmegaPRM.rearter(policy=SLIPPING, environment=LADDER)):
        growth = grown(labeler)
        assert growth.reason is None
        seen = Counter[str]()
        for example in growth.examples:
            assert example.labels is not None
            for t, value in enumerate(example.labels.values.tolist()):
                if math.isnan(value):
                    continue
                prefix = Trajectory(example.trajectory.problem, example.trajectory.steps[: t + 1])
                seen[prefix.key] += 1
                ends = asyncio.run(complete(SLIPPING, LADDER, prefix, labeler.rollouts, sampling=labeler.sampling))
                outcomes = [asyncio.run(grade(LADDER, end)) for end in ends]
                assert value == np.mean([outcome.value for outcome in outcomes])
                assert example.labels.hard[t] == (value > labeler.threshold)
        labelled_nodes = {node.trajectory.key for node in growth.tree if not math.isnan(node.value) and len(node.trajectory)}
        assert set(seen) == labelled_nodes
        assert set(seen.values()) == {1}
        assert len(seen) > 8
        assert any(ELSEWHERE in (example.labels.reasons if example.labels else ()) for example in growth.examples)


def test_the_search_stays_within_its_limits_and_takes_every_wrong_rollout_once() -> None:
    for searches in (0, 3, 7):
        growth = grown(OmegaPRM(policy=SLIPPING, environment=LADDER, searches=searches))
        assert sum(node.visits for node in growth.tree) == searches
    endless = OmegaPRM(policy=SLIPPING, environment=LADDER, searches=10_000, rollouts=4)
    growth = grown(endless, n_steps=5)
    wrong = sum(round((1 - node.value) * 4) for node in growth.tree if 0.0 < node.value < 1.0)
    assert sum(node.visits for node in growth.tree) == wrong, "the pool is empty when every wrong rollout was looked into"
    few = grown(OmegaPRM(policy=SLIPPING, environment=LADDER, max_rollouts=30))
    drawn = 8 * sum(not math.isnan(node.value) for node in few.tree)
    assert 30 <= drawn <= 30 + 8 * 4


def test_the_first_pair_taken_has_the_best_score() -> None:
    """At the root all shares are equal, so the shortest wrong rollout comes first: one that is 6 steps shorter has 0.9^(6/500) times less to pay."""
    growth = grown(OmegaPRM(policy=SLIPPING, environment=LADDER, searches=1, scale=5.0))
    assert growth.tree.root.visits == 1


def test_problems_that_are_always_or_never_solved_are_not_searched() -> None:
    easy, hard = (grown(OmegaPRM(policy=Climber(clean=clean), environment=LADDER)) for clean in (1.0, 0.0))
    assert not easy.examples
    assert not hard.examples
    assert "8 of 8" in (easy.reason or "")
    assert "0 of 8" in (hard.reason or "")
    assert easy.usage.policy_tokens == 80
    failed = grown(OmegaPRM(policy=Failing(SLIPPING, frozenset({0})), environment=LADDER))
    assert "the server is gone" in (failed.reason or "")


def test_hard_problems_go_to_the_stronger_policy_and_the_source_says_so() -> None:
    labeler = OmegaPRM.rearter(policy=Climber(clean=0.0), environment=LADDER, stronger=SLIPPING)
    growth = grown(labeler)
    assert growth.examples
    assert growth.source["policy"] == SLIPPING.fingerprint
    alone = grown(OmegaPRM.rearter(policy=SLIPPING, environment=LADDER))
    values, expected = ([example.labels.values for example in found.examples if example.labels] for found in (growth, alone))
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(values, expected, strict=True))
    assert growth.usage.policy_tokens == alone.usage.policy_tokens + 5 * 10, "the five vain rollouts are paid too"
    unsolved = grown(OmegaPRM.rearter(policy=SLIPPING, environment=LADDER, stronger=Climber(clean=0.5)))
    assert unsolved.source["policy"] == SLIPPING.fingerprint, "the stronger policy is not asked where the first one does"


def test_a_search_that_was_cut_short_goes_on_from_the_journal_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    @dataclass
    class Counting:
        limit: float = math.inf
        drawn: int = 0
        fingerprint: str = field(default=SLIPPING.fingerprint)

        async def sample(
            self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
        ) -> list[Trajectory]:
            if self.drawn >= self.limit:
                raise KeyboardInterrupt
            self.drawn += n
            return await SLIPPING.sample(prefix, n, until=until, sampling=sampling, draw=draw)

    straight = grown(OmegaPRM(policy=SLIPPING, environment=LADDER, searches=10))
    counts = []
    for limit in (40, math.inf, math.inf):
        policy = Counting(limit)
        with Journal(tmp_path / "journal.db") as journal:
            try:
                growth = grown(OmegaPRM(policy=JournaledPolicy(policy, journal), environment=LADDER, searches=10))
            except KeyboardInterrupt:
                growth = None
        counts.append(policy.drawn)
    total = 8 * sum(not math.isnan(node.value) for node in straight.tree)
    assert counts == [40, total - 40, 0]
    assert growth is not None
    assert [example.to_record() for example in growth.examples] == [example.to_record() for example in straight.examples]


# all of them


def test_the_labelers_keep_their_promises() -> None:
    cases = [asyncio.run(solve(FINAL, WORLD, problem, 1))[0] for problem in WORLD.problems(5, 4)]
    for labeler in (
        OmegaPRM(policy=FINAL, environment=WORLD, rollouts=3),
        OmegaPRM(policy=FINAL, environment=WORLD, rollouts=3, relative=0.4),
        CurtailedOmegaPRM(policy=FINAL, environment=WORLD, rollouts=3, confirm=2, evidence="passing"),
    ):
        check_labeler(labeler, cases)


def test_fingerprints_tell_settings_apart() -> None:
    base = {"policy": FINAL, "environment": WORLD}
    labelers = [OmegaPRM(**base), OmegaPRM(**base, rollouts=9), OmegaPRM(**base, confirm=1), CurtailedOmegaPRM(**base), OmegaPRM(**base, fallback=FINAL)]  # type: ignore[arg-type]
    assert len({labeler.fingerprint for labeler in labelers}) == len(labelers)
    assert OmegaPRM(**base).fingerprint == labelers[0].fingerprint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [{"rollouts": 0}, {"confirm": -1}, {"alpha": 0.0}, {"beta": 1.1}, {"scale": 0.0}, {"relative": 1.0}, {"threshold": -0.1}, {"unit": "words"}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        OmegaPRM(policy=FINAL, environment=WORLD, **settings)  # type: ignore[arg-type]


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match="evidence='own'"):
        OmegaPRM(policy=FINAL, environment=WORLD, relative=0.5, evidence="passing")
    with pytest.raises(InputError, match="no shares"):
        CurtailedOmegaPRM(policy=FINAL, environment=WORLD, relative=0.5)
