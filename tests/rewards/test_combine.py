"""Claims about combinations of reward models, against values worked out by hand and against oracles."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from stepward.core import (
    DEFAULT_SAMPLING,
    CountMismatch,
    Granularity,
    InputError,
    Outcome,
    Problem,
    RequestFailed,
    RewardModel,
    Sampling,
    Scale,
    Step,
    StepScores,
    Trajectory,
    Until,
    Usage,
    charge,
    metered,
)
from stepward.engine.loop import run_sync
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.rewards.arithmetic import ArithmeticVerifier
from stepward.rewards.combine import Bidirectional, Capped, Ensemble, Lifted, LogSigmoid, ProcessAndValue, fuse, reverse
from stepward.rewards.oracle import OracleReward
from stepward.search.beam import StepBeam
from stepward.testing import check_reward_model
from stepward.training.metrics import auroc

ABSTAIN = "abstained: no claim"
Entry = float | str


class Told:
    """A reward model that says what it is told: by text of the step, a number or a reason; an exception is raised. Costs 10 tokens a request."""

    def __init__(
        self,
        told: Mapping[str, Entry] | Callable[[Trajectory, int], Entry] | Exception,
        *,
        name: str = "told",
        scale: Scale = "probability",
        granularity: Granularity = "step",
        threshold: float = 0.5,
    ) -> None:
        self.told, self.fingerprint, self.scale, self.granularity, self.threshold = told, name, scale, granularity, threshold
        self.asked: list[Trajectory] = []

    async def score(self, trajectory: Trajectory) -> StepScores:
        self.asked.append(trajectory)
        await asyncio.sleep(0)
        usage = Usage(reward_tokens=10, calls=1)
        charge(usage)
        if isinstance(self.told, Exception):
            raise self.told
        entries = [self.told(trajectory, k) if callable(self.told) else self.told.get(trajectory.steps[k].text, 0.25) for k in range(len(trajectory))]
        values = np.array([math.nan if isinstance(entry, str) else entry for entry in entries], dtype=np.float64)
        reasons = tuple(entry if isinstance(entry, str) else None for entry in entries)
        return StepScores(values, reasons, self.scale, self.threshold, usage=usage)


def solution(*texts: str) -> Trajectory:
    return Trajectory.from_texts("What is 1 + 1?", texts, finished=True)


ABC = solution("a", "b", "c")
FIRST = Told({"a": 0.9, "b": 0.2, "c": 0.6}, name="first")
SECOND = Told({"a": 0.5, "b": 0.4, "c": ABSTAIN}, name="second")
THIRD = Told({"a": 0.7, "b": "broken", "c": 0.8}, name="third")


def by_length(trajectory: Trajectory, step: int) -> float:
    """A causal score in (0, 1) that depends on everything up to the step."""
    return (1 + sum(len(s.text) for s in trajectory.steps[: step + 1]) * 7 % 97) / 99


CAUSAL = Told(by_length, name="causal")


def test_fusing_by_hand() -> None:
    values = [[0.9, 0.2, np.nan], [0.5, 0.4, np.nan], [0.1, np.nan, np.nan]]
    mean, std = fuse(values, "mean")
    np.testing.assert_allclose(mean, [0.5, 0.3, np.nan])
    np.testing.assert_allclose(std, [math.sqrt(0.32 / 3), 0.1, np.nan])
    np.testing.assert_allclose(fuse(values, "min")[0], [0.1, 0.2, np.nan])
    np.testing.assert_allclose(fuse(values, "median")[0], [0.5, 0.3, np.nan])
    np.testing.assert_allclose(fuse(values, "lcb", k=2.0)[0], np.array(mean) - 2.0 * std)
    np.testing.assert_allclose(fuse(values, "mean", weights=[1, 2, 1])[0], [(0.9 + 1.0 + 0.1) / 4, (0.2 + 0.8) / 3, np.nan])
    np.testing.assert_allclose(fuse(values, "median", weights=[3, 1, 1])[0], [0.9, 0.2, np.nan])


@pytest.mark.parametrize("seed", range(5))
def test_fusing_agrees_with_numpy_and_its_identities_hold(seed: int) -> None:
    values = np.random.default_rng(seed).random((2 + seed, 40))
    for rule, reference in (("mean", np.mean), ("min", np.min), ("median", np.median)):
        np.testing.assert_allclose(fuse(values, rule)[0], reference(values, axis=0), atol=1e-15)
    np.testing.assert_array_equal(fuse(values, "lcb", k=0.0)[0], fuse(values, "mean")[0])
    np.testing.assert_allclose(fuse(values[:2], "lcb", k=1.0)[0], values[:2].min(axis=0), atol=1e-15, err_msg="for two members one std below is the minimum")
    repeated = np.repeat(values, [3, *[1] * (len(values) - 1)], axis=0)
    for rule in ("mean", "median", "lcb"):
        weighted = fuse(values, rule, weights=[3, *[1] * (len(values) - 1)])
        np.testing.assert_allclose(weighted, fuse(repeated, rule), atol=1e-12, err_msg=f"{rule}: a weight of 3 is a member three times")


def test_unusable_settings_are_refused_before_anything_is_paid_for() -> None:
    for settings, message in [
        ({"rule": "average"}, "average"),
        ({"weights": [1.0]}, "1 weights"),
        ({"weights": [1.0, 0.0]}, "positive"),
        ({"rule": "min", "weights": [1.0, 2.0]}, "no weights"),
        ({"k": -1.0}, "at least 0"),
        ({"missing": "zero"}, "zero"),
    ]:
        with pytest.raises(InputError, match=message):
            Ensemble([FIRST, SECOND], **settings)
    with pytest.raises(InputError, match="at least one member"):
        Ensemble([])
    assert not FIRST.asked


def test_mixed_scales_and_granularities_are_refused_with_the_remedy() -> None:
    logit, outcome = Told({}, name="raw", scale="logit"), Told({}, name="orm", granularity="outcome")
    for build in (lambda m: Ensemble([FIRST, m]), lambda m: Bidirectional(FIRST, m), lambda m: ProcessAndValue(FIRST, m)):
        with pytest.raises(InputError, match=r"raw is on the logit scale.*Calibrate first"):
            build(logit)
        with pytest.raises(InputError, match=r"orm scores each outcome.*lifted"):
            build(outcome)
    assert Ensemble([FIRST, Lifted(outcome)]).granularity == "step"


def test_a_step_that_a_member_does_not_score_is_unscored_with_that_members_reason() -> None:
    scores = run_sync(Ensemble([FIRST, SECOND, THIRD]).score(ABC))
    np.testing.assert_allclose(scores.values, [0.7, np.nan, np.nan])
    assert scores.reasons == (None, "broken", ABSTAIN)
    assert scores.n_failed == 1


def test_a_failure_wins_over_an_abstention() -> None:
    step = solution("x")
    members = [Told({"x": ABSTAIN}), Told({"x": "broken"}), Told({"x": 0.5})]
    for order in itertools.permutations(members):
        assert run_sync(Ensemble(order).score(step)).reasons == ("broken",)
    assert run_sync(Ensemble(members, missing="skip").score(step)).values[0] == 0.5
    assert run_sync(Ensemble(members[:2], missing="skip").score(step)).reasons == ("broken",)


def test_skipping_averages_the_rest_and_an_abstention_is_never_a_value() -> None:
    scores = run_sync(Ensemble([FIRST, SECOND, THIRD], missing="skip").score(ABC))
    np.testing.assert_allclose(scores.values, [0.7, 0.3, 0.7])
    np.testing.assert_allclose(scores.aspects["std"], [np.std([0.9, 0.5, 0.7]), 0.1, 0.1])
    weighted = run_sync(Ensemble([FIRST, SECOND, THIRD], weights=[1, 1, 3], missing="skip").score(ABC))
    np.testing.assert_allclose(weighted.values, [(0.9 + 0.5 + 2.1) / 5, 0.3, (0.6 + 2.4) / 4])


def test_a_member_that_fails_altogether_costs_the_others_nothing() -> None:
    lost = Told(RequestFailed("server gone"), name="lost")
    scores = run_sync(Ensemble([FIRST, lost]).score(ABC))
    assert scores.reasons == ("scoring failed: server gone",) * 3
    np.testing.assert_allclose(run_sync(Ensemble([FIRST, lost], missing="skip").score(ABC)).values, [0.9, 0.2, 0.6])


def test_a_member_with_another_number_of_scores_is_a_typed_error() -> None:
    class Short(Told):
        async def score(self, trajectory: Trajectory) -> StepScores:
            return StepScores(np.array([0.5]))

    with pytest.raises(CountMismatch, match="3 steps but short returned 1"):
        run_sync(Ensemble([FIRST, Short({}, name="short")]).score(ABC))


def test_the_bound_stays_a_probability_and_equals_the_mean_for_k_0() -> None:
    spread = [Told({"a": value}, name=str(value)) for value in (0.0, 0.1, 0.9)]
    assert run_sync(Ensemble(spread, "lcb", k=5.0).score(solution("a"))).values[0] == 0.0
    both = [run_sync(model.score(ABC)).values for model in (Ensemble([FIRST, FIRST, SECOND], "lcb", k=0.0), Ensemble([FIRST, FIRST, SECOND]))]
    np.testing.assert_array_equal(*both)


def test_members_are_asked_at_the_same_time_and_their_costs_are_summed_once() -> None:
    waiting = {"now": 0, "most": 0}

    class Slow(Told):
        async def score(self, trajectory: Trajectory) -> StepScores:
            waiting["now"] += 1
            waiting["most"] = max(waiting.values())
            result = await super().score(trajectory)
            waiting["now"] -= 1
            return result

    async def run() -> tuple[StepScores, Usage]:
        with metered() as ledger:
            return await Ensemble([Slow({}, name=name) for name in "abc"]).score(ABC), ledger.usage

    scores, charged = run_sync(run())
    assert waiting["most"] == 3
    assert scores.usage == charged == Usage(reward_tokens=30, calls=3)


def test_the_threshold_is_the_members_mean_unless_given() -> None:
    strict = Told({}, name="strict", threshold=0.9)
    assert run_sync(Ensemble([FIRST, strict]).score(ABC)).threshold == pytest.approx(0.7)
    assert run_sync(Ensemble([FIRST, strict], weights=[3, 1]).score(ABC)).threshold == pytest.approx(0.6)
    assert run_sync(Ensemble([FIRST, strict], threshold=0.2).score(ABC)).threshold == 0.2


def test_a_member_that_scored_nothing_does_not_move_the_threshold() -> None:
    right = Told({}, name="right", scale="logit", threshold=0.0)
    failing = Told(RequestFailed("down"), name="failing", scale="logit")
    assert run_sync(Ensemble([right, failing], missing="skip").score(ABC)).threshold == 0.0
    assert run_sync(Bidirectional(right, failing, missing="skip").score(ABC)).threshold == 0.0
    with pytest.raises(InputError, match="threshold must be on the model's probability scale, got nan"):
        Ensemble([FIRST], threshold=math.nan)


def test_what_members_say_is_kept_once_and_with_its_step() -> None:
    verifier = ArithmeticVerifier()
    told = solution("2 + 2 = 5.", "3 + 4 = 7.", "So we go on.")
    said = run_sync(verifier.score(told)).rationales
    assert said[0] is not None
    for model in (Ensemble([verifier, verifier]), Bidirectional(verifier), ProcessAndValue(verifier, verifier)):
        assert run_sync(model.score(told)).rationales == said


def test_fingerprints_tell_apart_what_gives_other_values() -> None:
    models = [
        Ensemble([FIRST, SECOND]), Ensemble([SECOND, FIRST]), Ensemble([FIRST, SECOND], "min"), Ensemble([FIRST, SECOND], "lcb"),
        Ensemble([FIRST, SECOND], "lcb", k=2.0), Ensemble([FIRST, SECOND], weights=[1, 2]), Ensemble([FIRST, SECOND], missing="skip"),
        Bidirectional(FIRST), Bidirectional(FIRST, gate=0.7), Bidirectional(FIRST, SECOND), Lifted(FIRST), Lifted(FIRST, how="last"),
        Capped(FIRST, SECOND), Capped(FIRST, SECOND, cap=0.1), Capped(FIRST, SECOND, support=0.5), ProcessAndValue(FIRST, SECOND),
        ProcessAndValue(FIRST, SECOND, beta=2.0), ProcessAndValue(FIRST, SECOND, beta=math.inf), ProcessAndValue(FIRST, SECOND, beta_on="process"),
        ProcessAndValue(FIRST, SECOND, aggregation="mean"),
    ]  # fmt: skip
    names = [model.fingerprint for model in models]
    assert len(set(names)) == len(names)
    assert Ensemble([FIRST, SECOND], "mean", k=3.0).fingerprint == names[0], "k means nothing to a mean"


# --- right to left


def test_reversing_twice_is_the_identity() -> None:
    problem = ABC.problem
    steps = (Step("look up", "\n", observation="4"), Step("so 4", "\n\n"), Step("The answer is 4."))
    for trajectory in (ABC, Trajectory(problem), Trajectory(problem, steps, finished=True), solution("one")):
        assert reverse(reverse(trajectory)) == trajectory
        assert reverse(reverse(trajectory)).key == trajectory.key
    turned = reverse(Trajectory(problem, steps, finished=True))
    assert [step.text for step in turned.steps] == ["The answer is 4.", "so 4", "look up"]
    assert turned.text == "The answer is 4.\nso 4\n\nlook up", "steps stay apart"
    assert turned.steps[2].observation == "4"


def test_the_gate_weighs_the_two_readings() -> None:
    backward = Told({"a": 0.1, "b": 0.6, "c": 0.4}, name="backward")
    scores = run_sync(Bidirectional(FIRST, backward, gate=0.75).score(ABC))
    np.testing.assert_allclose(scores.values, [0.7, 0.3, 0.55])
    np.testing.assert_array_equal(scores.aspects["backward"], [0.1, 0.6, 0.4])
    assert [step.text for step in backward.asked[-1].steps] == ["c", "b", "a"]
    np.testing.assert_array_equal(run_sync(Bidirectional(FIRST, backward, gate=1.0).score(ABC)).values, [0.9, 0.2, 0.6])
    np.testing.assert_array_equal(run_sync(Bidirectional(FIRST, backward, gate=0.0).score(ABC)).values, [0.1, 0.6, 0.4])
    assert run_sync(Bidirectional(FIRST).score(ABC)).usage.calls == 2


def test_reasons_stay_with_their_steps_when_mapped_back() -> None:
    scores = run_sync(Bidirectional(FIRST, THIRD).score(ABC))
    assert scores.reasons == (None, "broken", None)
    skipped = run_sync(Bidirectional(FIRST, THIRD, missing="skip").score(ABC))
    np.testing.assert_allclose(skipped.values, [0.8, 0.2, 0.7])


def test_where_an_error_shows_only_in_the_next_step_both_readings_beat_one() -> None:
    """An oracle reader that knows a step to be wrong once it has read the step after it, and guesses otherwise."""
    rng = np.random.default_rng(0)
    guesses = {f"{i}.{k}{wrong}": rng.normal(0.45 if wrong else 0.55, 0.15) for i in range(300) for k in range(4) for wrong in ("", "!")}

    def reader(trajectory: Trajectory, step: int) -> float:
        texts = [s.text for s in trajectory.steps]
        number, k = texts[step].rstrip("!").split(".")
        shown = next((text for text in texts[:step] if text.rstrip("!") == f"{number}.{int(k) + 1}"), None)  # the step after it, if already read
        if shown is not None:
            return 0.05 if texts[step].endswith("!") else 0.95
        return float(np.clip(guesses[texts[step]], 0.0, 1.0))

    model = Told(reader, name="reader")
    forward, both, good = [], [], []
    for i in range(300):
        wrong = int(rng.integers(-1, 4))
        trajectory = solution(*(f"{i}.{k}{'!' if k == wrong else ''}" for k in range(4)))
        forward.extend(run_sync(model.score(trajectory)).values)
        both.extend(run_sync(Bidirectional(model).score(trajectory)).values)
        good.extend(k != wrong for k in range(4))
    one, two = auroc(np.array(forward), np.array(good)), auroc(np.array(both), np.array(good))
    assert two > one + 0.15, f"AUROC of both readings {two:.3f}, of one {one:.3f}"


# --- reward plus value


def test_process_and_value_by_hand() -> None:
    value = Told({"a": 0.4, "b": 0.6, "c": 0.5}, name="value")
    process = Told({"a": 0.8, "b": 0.2, "c": 0.5}, name="process")
    np.testing.assert_allclose(run_sync(ProcessAndValue(process, value, beta=3.0).score(ABC)).values, [(0.8 + 1.2) / 4, (0.2 + 1.8) / 4, 0.5])
    coded = run_sync(ProcessAndValue(process, value, beta=1.0, beta_on="process", aggregation="mean").score(ABC))
    np.testing.assert_allclose(coded.values, [(0.4 + 0.8) / 2, (0.6 + 0.5) / 2, (0.5 + 0.5) / 2])
    np.testing.assert_allclose(coded.aspects["process"], [0.8, 0.5, 0.5])
    np.testing.assert_allclose(run_sync(ProcessAndValue(process, value, aggregation="min").score(ABC)).aspects["process"], [0.8, 0.2, 0.2])
    np.testing.assert_array_equal(run_sync(ProcessAndValue(process, value, beta=0.0).score(ABC)).values, [0.8, 0.2, 0.5])
    np.testing.assert_array_equal(run_sync(ProcessAndValue(process, value, beta=math.inf).score(ABC)).values, [0.4, 0.6, 0.5])


def test_process_and_value_are_unscored_where_a_term_is() -> None:
    value = Told({"a": 0.4, "b": 0.6, "c": 0.5}, name="value")
    assert run_sync(ProcessAndValue(SECOND, value).score(ABC)).reasons == (None, None, ABSTAIN)
    running = run_sync(ProcessAndValue(SECOND, value, aggregation="mean").score(ABC))
    np.testing.assert_allclose(running.aspects["process"], [0.5, 0.45, 0.45], err_msg="an abstention leaves the mean of the others")
    assert run_sync(ProcessAndValue(THIRD, value, aggregation="mean").score(ABC)).reasons == (None, "broken", "broken"), "a failure hides all that follows"
    lost = Told(RequestFailed("server gone"), name="lost")
    assert run_sync(ProcessAndValue(lost, value, beta=math.inf).score(ABC)).reasons == (None, None, None), "a term without weight is not needed"


class ExactValue:
    """V(prefix) of a scripted policy."""

    granularity: Granularity = "step"
    scale: Scale = "probability"
    fingerprint = "exact-value"

    def __init__(self, solver: ScriptedSolver) -> None:
        self.solver = solver

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.array([self.solver.value(prefix) for prefix in trajectory.prefixes()]))


def same_order(left: np.ndarray, right: np.ndarray) -> bool:
    """Every pair that differs clearly on the right side is ordered alike on the left."""
    gap = np.subtract.outer(right, right)
    return bool((np.subtract.outer(left, left)[gap > 1e-3] > 0.0).all())


def test_extreme_betas_recover_the_orders_of_the_parts_and_with_both_wrong_but_recoverable_prefixes_are_found() -> None:
    world = GradeSchool.easy()
    solver = ScriptedSolver(rates=ErrorRates(arithmetic_slip=0.3), notice=0.9, lucky=0.0)

    async def solutions() -> list[Trajectory]:
        return [made for problem in world.problems(3, 40) for made in await solver.sample(Trajectory(problem), 2, until=Until.END)]

    trajectories = run_sync(solutions())
    process, value = OracleReward(world), ExactValue(solver)

    def scores(model: RewardModel) -> np.ndarray:
        return np.concatenate([run_sync(model.score(trajectory)).values for trajectory in trajectories])

    g, h = scores(process), scores(value)
    np.testing.assert_array_equal(scores(ProcessAndValue(process, value, beta=0.0)), g)
    np.testing.assert_array_equal(scores(ProcessAndValue(process, value, beta=math.inf)), h)
    assert same_order(scores(ProcessAndValue(process, value, beta=1e6)), h)
    assert same_order(scores(ProcessAndValue(process, value, beta=1e-6)), g)
    assert ((g == 0.0) & (h > 0.5)).sum() > 10, "the world must hold wrong prefixes that end well"
    together = scores(ProcessAndValue(process, value))
    assert auroc(h, g == 1.0) < 0.95, "value alone does not find errors"
    assert auroc(together, g == 1.0) == 1.0, "with the process term every error is found"
    assert same_order(together[g == 1.0], h[g == 1.0]), "among right prefixes the better chance comes first"


class Fork:
    """A policy and its environment: "left" leads to the wrong answer whatever follows, "right" to the right one; both are faultless steps."""

    fingerprint, interactive = "fork", False

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        if not prefix.steps:
            return [prefix.extend(Step("left" if (draw + i) % 2 == 0 else "right", "\n")) for i in range(n)]
        return [prefix.extend(f"The answer is {1 if prefix.steps[0].text == 'left' else 2}.", finished=True)] * n

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.ended

    def answer(self, trajectory: Trajectory) -> str | None:
        return trajectory.steps[-1].text[-2] if trajectory.finished else None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return Outcome(float(self.answer(trajectory) == "2"))


def test_where_right_prefixes_can_be_dead_ends_a_beam_needs_the_value_term() -> None:
    fork, problem = Fork(), Problem("Which way?", answer="2")
    process = Told(lambda trajectory, step: 0.9, name="process")
    value = Told(lambda trajectory, step: float(trajectory.steps[0].text == "right"), name="value")

    def outcome(model: RewardModel) -> float | None:
        found = run_sync(StepBeam(policy=fork, environment=fork, model=model, width=1, expansions=4, aggregation="last").search(problem)).chosen
        assert found is not None
        return run_sync(fork.grade(found)).value

    assert outcome(process) == 0.0
    assert outcome(ProcessAndValue(process, value)) == 1.0


# --- outcome models as step models


def test_lifting_asks_for_every_prefix_and_reads_its_end() -> None:
    outcome = Told(lambda t, k: len(t) / 10 if k == len(t) - 1 else "abstained: not the end", name="orm", granularity="outcome")
    scores = run_sync(Lifted(outcome).score(ABC))
    np.testing.assert_allclose(scores.values, [0.1, 0.2, 0.3])
    assert sorted(len(asked) for asked in outcome.asked) == [1, 2, 3]
    assert [asked.finished for asked in sorted(outcome.asked, key=len)] == [False, False, True]
    assert scores.usage == Usage(reward_tokens=30, calls=3)
    last = run_sync(Lifted(outcome, how="last").score(ABC))
    np.testing.assert_allclose(last.values, [np.nan, np.nan, 0.3])
    assert (last.n_failed, last.n_unscored, last.overall("min")) == (0, 2, pytest.approx(0.3))
    assert last.usage.calls == 1


def test_lifting_keeps_each_prefixs_own_failure() -> None:
    assert run_sync(Lifted(Told({"a": 0.5, "b": "broken", "c": 0.5})).score(ABC)).reasons == (None, "broken", None)
    assert run_sync(Lifted(Told(RequestFailed("gone"))).score(ABC)).reasons == ("scoring failed: gone",) * 3


def test_lifting_a_causal_step_model_changes_nothing() -> None:
    np.testing.assert_array_equal(run_sync(Lifted(CAUSAL).score(ABC)).values, run_sync(CAUSAL.score(ABC)).values)


# --- verifiers


def test_a_refutation_caps_a_confirmation_supports_and_an_abstention_changes_nothing() -> None:
    verifier = Told({"a": 1.0, "b": ABSTAIN, "c": 0.0}, name="verifier")
    plain = run_sync(Capped(FIRST, verifier).score(ABC))
    np.testing.assert_array_equal(plain.values, [0.9, 0.2, 0.0])
    assert plain.rationales[0] is plain.rationales[1] is None
    assert plain.rationales[2] == "refuted by verifier: at most 0"
    np.testing.assert_array_equal(plain.aspects["uncapped"], [0.9, 0.2, 0.6])
    np.testing.assert_array_equal(run_sync(Capped(FIRST, verifier, cap=0.7).score(ABC)).values, [0.9, 0.2, 0.6], err_msg="a cap never raises a score")
    np.testing.assert_array_equal(run_sync(Capped(FIRST, verifier, cap=0.1, support=0.95).score(ABC)).values, [0.95, 0.2, 0.1])
    np.testing.assert_array_equal(run_sync(Capped(FIRST, verifier, support=0.5).score(ABC)).values, [0.9, 0.2, 0.0], err_msg="support never lowers one")


def test_failures_of_model_or_verifier() -> None:
    verifier = Told({"a": "crashed", "b": 0.0, "c": 0.0}, name="verifier")
    assert run_sync(Capped(FIRST, verifier).score(ABC)).reasons == ("crashed", None, None)
    assert run_sync(Capped(THIRD, verifier).score(ABC)).reasons == ("crashed", "broken", None)
    skipped = run_sync(Capped(THIRD, verifier, missing="skip").score(ABC))
    np.testing.assert_array_equal(skipped.values, [0.7, 0.0, 0.0], err_msg="whoever is left decides")
    assert skipped.reasons == (None, None, None)


def test_a_cap_that_could_not_count_is_refused() -> None:
    verifier = Told({}, name="verifier")
    with pytest.raises(InputError, match="0 need not mean wrong"):
        Capped(Told({}, scale="logit"), verifier)
    with pytest.raises(InputError, match="lift the model to steps first"):
        Capped(Told({}, granularity="outcome"), verifier)


def test_the_verifiers_own_threshold_decides_on_any_scale() -> None:
    logit = Told({"a": 2.0, "b": -1.0, "c": 0.5}, name="raw", scale="logit", threshold=0.0)
    picky = Told({"a": 0.8, "b": 0.95, "c": 0.1}, name="picky", threshold=0.9)
    np.testing.assert_array_equal(run_sync(Capped(logit, picky, cap=-4.0).score(ABC)).values, [-4.0, -1.0, -4.0])
    with pytest.raises(InputError, match="cap must be on the model's probability scale"):
        Capped(FIRST, picky, cap=-4.0)
    with pytest.raises(InputError, match="support must not be below"):
        Capped(FIRST, picky, cap=0.5, support=0.2)


def test_exact_arithmetic_as_the_verifier() -> None:
    texts = solution("2 + 2 = 5.", "So we go on.", "3 + 4 = 7.")
    scores = run_sync(Capped(Told({}, name="constant"), ArithmeticVerifier()).score(texts))
    np.testing.assert_array_equal(scores.values, [0.0, 0.25, 0.25])
    assert "2 + 2 = 5" in (scores.rationales[0] or "")
    mixed = run_sync(Ensemble([Told({}, name="constant"), ArithmeticVerifier()], missing="skip").score(texts))
    np.testing.assert_array_equal(mixed.values, [0.125, 0.25, 0.625])


# --- transforms


def test_log_sigmoids_add_up_to_the_log_of_a_product_and_ignore_what_is_common_to_a_problem() -> None:
    raw = [Told({"a": 1.5, "b": -0.5, "c": 3.0}, name="x", scale="logit"), Told({"a": -2.0, "b": 0.0, "c": 1.0}, name="y", scale="logit")]
    u = [run_sync(LogSigmoid(model, lambda problem: 0.5, name="half").score(ABC)).values for model in raw]
    p = [1 / (1 + np.exp(0.5 - np.array([model.told[text] for text in "abc"]))) for model in raw]  # type: ignore[index]
    np.testing.assert_allclose(np.exp(u[0] + u[1]), p[0] * p[1], rtol=1e-14)
    shifted = Told({"a": 8.5, "b": 6.5, "c": 10.0}, name="z", scale="logit")
    np.testing.assert_allclose(run_sync(LogSigmoid(shifted, lambda problem: 7.5, name="shifted").score(ABC)).values, u[0], rtol=1e-12)


# --- the protocol


@pytest.mark.parametrize(
    ("model", "causal"),
    [
        (Ensemble([CAUSAL, Told({}, name="constant")]), True),
        (Ensemble([CAUSAL, Told({}, name="constant")], "lcb"), True),
        (Ensemble([CAUSAL, ArithmeticVerifier()], "min", missing="skip"), True),
        (Bidirectional(CAUSAL), False),
        (ProcessAndValue(CAUSAL, Told({}, name="constant"), aggregation="mean"), True),
        (Lifted(CAUSAL), True),
        (Lifted(CAUSAL, how="last"), False),
        (Capped(CAUSAL, ArithmeticVerifier()), True),
        (LogSigmoid(CAUSAL, lambda problem: 0.0, name="zero"), True),
        (Capped(Ensemble([Bidirectional(CAUSAL), Lifted(CAUSAL)]), ArithmeticVerifier()), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_combination_is_a_reward_model(model: Ensemble, causal: bool) -> None:
    assert "one score a step" in check_reward_model(model, causal=causal)


def test_combinations_nest() -> None:
    inner: Sequence[Ensemble] = [Ensemble([FIRST, Told({}, name="constant")], rule) for rule in ("mean", "min")]
    np.testing.assert_allclose(run_sync(Ensemble(inner, "mean").score(solution("a"))).values, [(0.575 + 0.25) / 2])
