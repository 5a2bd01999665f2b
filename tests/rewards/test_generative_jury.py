"""Asking and voting: accuracy of votes, probabilities, asking again once, forcing, costs, journal and names."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rewards.generative_parts import ALL, believed, judge, score, solution, telling, truthful

from stepward.core import InputError, Policy, Problem, RequestFailed, Sampling, StopRun, Trajectory, Usage, charge, metered, metered_as_reward
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy, JournaledRewardModel
from stepward.rewards.generative import RPRM, GenerativeModel, load_judge
from stepward.rewards.generative.asking import cut_text
from stepward.rewards.generative.odds import Odds, read_odds
from stepward.rewards.generative.scripted import Asked, ScriptedJudge
from stepward.rewards.generative.votes import Ballot, reduce_ballots, reduce_values
from stepward.testing import check_policy

SAMPLED = Sampling(temperature=1.0, max_tokens=400)


def binomial_majority(k: int, p: float) -> float:
    """P(more than half of k independent verdicts are right), each right with probability p; k odd."""
    return sum(math.comb(k, r) * p**r * (1 - p) ** (k - r) for r in range(k // 2 + 1, k + 1))


@pytest.mark.parametrize(("kind", "k", "error"), [("one-pass", 1, 0.3), ("one-pass", 5, 0.3), ("stepwiser", 7, 0.4), ("thinkprm", 3, 0.2)])
def test_the_majoritys_accuracy_is_the_binomials(kind: str, k: int, error: float) -> None:
    n = 400
    model = judge(kind, truthful(kind, error=error), k=k, reduce="majority", sampling=SAMPLED)
    texts = ["good" if index % 2 else "bad" for index in range(n)]

    async def run() -> list[float]:
        scores = await asyncio.gather(*(model.score(solution(text, problem=f"Problem {index}")) for index, text in enumerate(texts)))
        return [float(one.values[0]) for one in scores]

    right = np.mean([value == (text == "good") for value, text in zip(asyncio.run(run()), texts, strict=True)])
    expected = binomial_majority(k, 1 - error)
    assert abs(right - expected) < 3 * math.sqrt(expected * (1 - expected) / n), f"{right} instead of {expected}"


def test_the_mean_of_hard_votes_is_unbiased() -> None:
    n, k, error = 400, 4, 0.25
    model = judge("stepwiser", truthful("stepwiser", error=error), k=k, sampling=SAMPLED)

    async def run() -> list[float]:
        scores = await asyncio.gather(*(model.score(solution("good", problem=f"Problem {index}")) for index in range(n)))
        return [float(one.values[0]) for one in scores]

    values = asyncio.run(run())
    assert set(values) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert abs(np.mean(values) - (1 - error)) < 3 * math.sqrt(error * (1 - error) / (n * k))


@pytest.mark.parametrize(("how", "reduce_by_hand"), [("mean", np.mean), ("min", min), ("majority", lambda v: float(sum(x >= 0.5 for x in v) * 2 > len(v)))])
def test_probabilities_are_reduced_as_asked(how: str, reduce_by_hand: Callable[[list[float]], float]) -> None:
    """Each draw states how sure it is, and the odds at its verdict are exactly that."""
    chances = [0.9, 0.4, 0.8, 0.05, 0.7]

    def write(asked: Asked) -> str:
        return f"I am {chances[asked.draw]} sure.\n\nVerification: Is the step correct (Yes/No)? {'Yes' if chances[asked.draw] >= 0.5 else 'No'}"

    policy = telling(write, lambda asked: float(asked.written.split("I am ")[1].split(" sure")[0]))
    scores = score(load_judge("r-prm", policy, k=5, reduce=how), solution("good", "good"))
    assert scores.values == pytest.approx([reduce_by_hand(chances)] * 2)
    assert scores.aspects["votes"].tolist() == [5.0, 5.0]
    assert scores.aspects["words"].tolist() == [0.0, 0.0], "no vote was read from its word alone"
    words = score(load_judge("r-prm", policy, k=5, reduce="mean", read="words"), solution("good"))
    assert words.values == pytest.approx([0.6])
    assert words.aspects["words"].tolist() == [5.0]


def test_odds_are_read_right_before_the_verdicts_word() -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    def tell(asked: Asked, choices: object) -> list[float]:
        seen.append((asked.written, tuple(choices)))  # type: ignore[arg-type]
        return [math.log(0.75), math.log(0.25)]

    policy = telling(lambda _: "Step 1: so.\n\nIt is \\boxed{incorrect}, really.\n\nIs the solution correct? no", lambda _: 0.5)
    policy.teller = tell
    scores = score(load_judge("thinkprm", policy), solution("bad"))
    assert scores.values == pytest.approx([0.75]), "the odds decide, whichever word was drawn"
    assert seen[0] == ("Step 1: so.\n\nIt is \\boxed{", ("correct", "incorrect"))
    assert seen[1] == ("Step 1: so.\n\nIt is \\boxed{incorrect}, really.\n\nIs the solution correct?", (" yes", " no"))
    assert scores.aspects["solution"] == pytest.approx([0.75])


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "genprm"])
def test_a_missing_verdict_is_asked_for_exactly_once_more(kind: str) -> None:
    """Draws 0..k-1 say nothing; the second ones do."""
    k, told = 3, truthful(kind)
    policy = ScriptedJudge(lambda asked: told(asked) if asked.draw >= k else "Well.")
    options = {"rubric": ["It is right."]} if kind == "rubric" else {}
    trajectory = solution("good", "bad")
    scores = score(load_judge(kind, policy, k=k, sampling=SAMPLED, **options), trajectory)
    assert scores.values.tolist() == [1.0, 0.0]
    draws = Counter(asked.draw for asked in policy.asked if asked.written == "")
    n_questions = 1 if kind in ("thinkprm", "critic", "one-pass", "fover-gen") else 2
    assert draws == dict.fromkeys(range(2 * k), n_questions)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "genprm"])
def test_a_judge_that_never_says_is_asked_twice_and_then_unscored(kind: str) -> None:
    policy = ScriptedJudge(lambda _: "It could be \\boxed{either}.")
    options = {"rubric": ["It is right."]} if kind == "rubric" else {}
    scores = score(load_judge(kind, policy, k=2, sampling=SAMPLED, **options), solution("good", "bad"))
    assert np.isnan(scores.values).all()
    assert all("no verdict in two answers" in str(reason) for reason in scores.reasons)
    assert scores.n_failed == 2
    assert any(text and "either" in text for text in scores.rationales), "what the judge said instead is kept"
    assert {asked.draw for asked in policy.asked if asked.written == ""} == {0, 1, 2, 3}


def test_a_complete_second_answer_counts_and_incomplete_ones_are_put_together() -> None:
    first = "Step 1: \\boxed{correct}"
    for second, expected in (
        ("Step 1: \\boxed{correct}\nStep 2: \\boxed{incorrect}\nStep 3: \\boxed{correct}\n", [1.0, 0.0, 1.0]),
        ("Step 1: \\boxed{incorrect}\nStep 2: \\boxed{correct}\nStep 3: \\boxed{correct}\n", [0.0, 1.0, 1.0]),
        ("Step 2: \\boxed{correct}\n", [1.0, 1.0, None]),
        ("no", [1.0, None, None]),
    ):
        policy = ScriptedJudge(lambda asked, second=second: first if asked.draw == 0 else second)
        scores = score(load_judge("one-pass", policy), solution("a", "b", "c"))
        assert [None if math.isnan(value) else value for value in scores.values] == expected
        assert scores.first_error() == (None if None in expected else expected.index(0.0)), "what is missing hides whether there is an error"


def test_a_greedy_judge_is_not_greedy_the_second_time() -> None:
    temperatures: list[float] = []

    class Watching(ScriptedJudge):
        async def sample(self, prefix: Trajectory, n: int = 1, **options: object) -> list[Trajectory]:
            temperatures.append(options["sampling"].temperature)  # type: ignore[attr-defined]
            return await super().sample(prefix, n, **options)  # type: ignore[arg-type]

    score(load_judge("one-pass", Watching(lambda _: "?")), solution("a"))
    assert temperatures == [0.0, 0.7]


def test_a_spent_budget_is_forced_by_words() -> None:
    """The critic writes on and on; cut off, it is made to name its index."""

    def write(asked: Asked) -> str:
        return "1} is where it goes wrong" if asked.written.endswith("\\boxed{") else "word " * 1000

    policy = ScriptedJudge(write)
    scores = score(load_judge("critic", policy, sampling=Sampling(temperature=0.0, max_tokens=30)), solution("a", "b", "c"))
    assert scores.values[:2].tolist() == [1.0, 0.0]
    assert scores.rationales[1] is not None
    assert "occurs is \\boxed{1}" in scores.rationales[1]
    assert len(policy.asked) == 2, "forced, not asked again"


def test_a_spent_budget_is_forced_by_odds() -> None:
    def write(asked: Asked) -> str:
        return "word " * 1000

    short = Sampling(temperature=0.0, max_tokens=20)
    sure = score(load_judge("stepwiser", telling(write, lambda _: 0.8), sampling=short), solution("a"))
    assert sure.values == pytest.approx([0.8])
    assert str(sure.rationales[0]).endswith("2. Final Judgment: \\boxed{Positive")
    elsewhere = score(load_judge("stepwiser", telling(write, lambda _: 0.8, mass=1e-4), sampling=short), solution("a"))
    assert np.isnan(elsewhere.values).all(), "neither word is what the judge was about to write"
    assert "cut off after 20 tokens" in str(elsewhere.reasons[0])


def test_the_closing_question_is_always_asked() -> None:
    """R-PRM and ThinkPRM append their question to answers that end without a verdict, as the authors' code does; nothing is asked again then."""

    def write(asked: Asked) -> str:
        return " Yes, it is." if asked.written.endswith("correct (Yes/No)?") else "All is well."

    policy = ScriptedJudge(write)
    assert score(load_judge("r-prm", policy), solution("a", "b")).values.tolist() == [1.0, 1.0]
    assert {asked.draw for asked in policy.asked} == {0}
    assert score(load_judge("r-prm", telling(write, lambda _: 0.3)), solution("a")).values == pytest.approx([0.3])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0, math.nan]), min_size=3, max_size=3), min_size=1, max_size=6),
    st.sampled_from(["mean", "majority", "min"]),
)
def test_ballots_are_reduced_over_what_is_known(rows: list[list[float]], how: str) -> None:
    draws = [{slot: Ballot(value, "why" if math.isnan(value) else None) for slot, value in enumerate(row)} for row in rows]
    votes = reduce_ballots(draws, range(3), how)
    for slot in range(3):
        known = [row[slot] for row in rows if not math.isnan(row[slot])]
        if not known:
            assert (math.isnan(votes[slot].value), votes[slot].reason) == (True, "why")
        else:
            expected = {"mean": float(np.mean(known)), "min": min(known), "majority": float(sum(v >= 0.5 for v in known) > len(known) / 2)}[how]
            assert votes[slot].value == pytest.approx(expected)
            assert votes[slot].n_draws == len(known)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=9))
def test_the_vote_on_the_index_is_the_most_common_one(indices: list[int]) -> None:
    draws = []
    for index in indices:
        upto = 4 if index < 0 else index + 1
        known = {step: Ballot(float(step != index)) for step in range(upto)}
        draws.append(known | {step: Ballot(math.nan, "abstained: later") for step in range(upto, 4)})
    winner = Counter(indices).most_common(1)[0][0]
    votes = reduce_ballots(draws, range(4), "index")
    values = [votes[step].value for step in range(4)]
    assert (values.index(0.0) if 0.0 in values else -1) == winner
    assert votes[0].n_draws == len(indices)


def test_odds() -> None:
    assert Odds(math.log(0.6), math.log(0.2)).share == pytest.approx(0.75)
    assert Odds(math.log(0.6), math.log(0.2)).mass == pytest.approx(0.8)
    assert (Odds(-800.0, 0.0).share, Odds(0.0, -800.0).share) == (0.0, 1.0), "no overflow"
    assert math.isnan(reduce_values([], "mean"))
    with pytest.raises(InputError, match="unknown reduction"):
        reduce_values([1.0], "median")


def test_text_is_cut_anywhere() -> None:
    trajectory = Trajectory.from_texts("p", ["abc", "de", "f"], separator="--")
    for n in range(len(trajectory.text) + 3):
        cut = cut_text(trajectory, n)
        assert cut.text == trajectory.text[:n]
        assert not cut.ended
    assert cut_text(trajectory, 6).steps[0] is trajectory.steps[0]


def test_cost_is_a_reward_models() -> None:
    model = judge("r-prm", k=3, sampling=SAMPLED)
    with metered() as ledger:
        scores = score(model, solution("good", "bad"))
    usage = ledger.usage
    assert (usage.policy_tokens, usage.policy_prefill, usage.policy_cached) == (0, 0, 0)
    assert usage.reward_tokens > 0
    assert usage.reward_written > 0
    assert usage.reward_cached == 2 * usage.reward_tokens, "three draws of each prompt, of which two are spared"
    assert scores.usage == usage


def test_relabelled_cost_keeps_what_was_paid_and_nests() -> None:
    with metered() as outer:
        with metered_as_reward() as inner:
            charge(Usage(policy_tokens=5, policy_prefill=7, policy_cached=2, reward_tokens=1, calls=1, flops=9))
            charge(Usage(policy_tokens=3), replayed=True)
        with contextlib.suppress(RuntimeError), metered_as_reward():
            charge(Usage(policy_prefill=10))
            raise RuntimeError
    assert inner.usage.policy_tokens == 8
    assert outer.usage == Usage(reward_written=8, reward_tokens=18, reward_cached=2, calls=1, flops=9)
    assert outer.paid == Usage(reward_written=5, reward_tokens=18, reward_cached=2, calls=1, flops=9)


def test_a_journaled_judge_pays_once(tmp_path: Path) -> None:
    policy = ScriptedJudge(truthful("r-prm"))
    with Journal(tmp_path / "j.sqlite") as journal:
        model = JournaledRewardModel(load_judge("r-prm", policy, k=2, sampling=SAMPLED), journal)
        first = score(model, solution("good", "bad"))
        n_asked = len(policy.asked)
        with metered() as ledger:
            again = score(model, solution("good", "bad"))
    assert again == first
    assert len(policy.asked) == n_asked
    assert ledger.usage == first.usage
    assert not ledger.paid


def test_a_judge_on_a_journaled_policy_replays_its_answers(tmp_path: Path) -> None:
    policy = telling(truthful("stepwiser"), lambda _: 0.7)
    with Journal(tmp_path / "j.sqlite") as journal:
        model = load_judge("stepwiser", JournaledPolicy(policy, journal), k=2, sampling=SAMPLED)
        first = score(model, solution("good"))
        n_asked = len(policy.asked)
        with metered() as ledger:
            again = score(model, solution("good"))
    assert again == first
    assert first.values == pytest.approx([0.7]), "probabilities are read from the policy behind the journal"
    assert len(policy.asked) == n_asked
    assert (ledger.paid.reward_written, ledger.usage.reward_written > 0) == (0, True)


def test_failures_are_reasons_and_stops_are_not() -> None:
    class Failing(ScriptedJudge):
        error: Exception = RequestFailed("the server is gone")

        async def sample(self, prefix: Trajectory, n: int = 1, **options: object) -> list[Trajectory]:
            if "Now Step: Step 2:" in prefix.problem.prompt:
                raise self.error
            return await super().sample(prefix, n, **options)  # type: ignore[arg-type]

    policy = Failing(truthful("r-prm"))
    scores = score(load_judge("r-prm", policy), solution("good", "good", "bad"))
    assert scores.values.tolist()[::2] == [1.0, 0.0]
    assert scores.reasons[1] == "RequestFailed: the server is gone"
    policy.error = StopRun("the disk is full")
    with pytest.raises(StopRun):
        score(load_judge("r-prm", policy), solution("good", "good"))


def test_images_are_not_overlooked() -> None:
    seen: list[tuple[str, ...]] = []

    class Looking(ScriptedJudge):
        async def sample(self, prefix: Trajectory, n: int = 1, **options: object) -> list[Trajectory]:
            seen.append(prefix.problem.images)
            return await super().sample(prefix, n, **options)  # type: ignore[arg-type]

    trajectory = Trajectory.from_texts(Problem("What is shown?", images=("a.png",)), ["good"])
    for kind in ("r-prm", "genprm"):
        score(load_judge(kind, Looking(truthful(kind))), trajectory)
    assert set(seen) == {("a.png",)}, "a policy that cannot see them refuses"


def test_the_fingerprint_names_everything_that_decides_a_score() -> None:
    def named(kind: str = "thinkprm", policy: Policy | None = None, **options: object) -> str:
        return load_judge(kind, policy or ScriptedJudge(truthful("thinkprm")), **options).fingerprint

    changes = [
        {"policy": ScriptedJudge(truthful("thinkprm"), name="other")}, {"k": 2}, {"k": 3}, {"reduce": "min"}, {"variant": "card"}, {"variant": "appended"},
        {"judges": "prefixes"}, {"after_error": "incorrect"}, {"rounds": 2}, {"sampling": SAMPLED}, {"sampling": Sampling(temperature=0.0, max_tokens=10)},
        {"policy": telling(truthful("thinkprm"), lambda _: 0.5)}, {"kind": "one-pass"}, {"kind": "critic"}, {"kind": "critic", "answers": "escaped"},
        {"kind": "rubric", "rubric": ["a"]}, {"kind": "rubric", "rubric": ["b"]}, {"kind": "rubric", "rubric": [{"text": "a", "weight": 2}]},
        {"kind": "principle"}, {"kind": "principle", "principles": "Be kind."}, {"kind": "principle", "unit": "solution"},
        {"kind": "genprm"}, {"kind": "genprm", "rounds": 2}, {"kind": "genprm", "turns": "chatml"}, {"kind": "genprm", "k": 2},
    ]  # fmt: skip
    names = [named(), *(named(**change) for change in changes)]
    assert len(set(names)) == len(names)
    assert named() == named()
    assert named(policy=telling(truthful("thinkprm"), lambda _: 0.5), read="words") == named(), "how it is read counts, not what could be"


def test_options_are_checked() -> None:
    policy = ScriptedJudge(truthful("critic"))
    for options in ({"k": 0}, {"reduce": "median"}, {"read": "minds"}):
        with pytest.raises(InputError):
            load_judge("critic", policy, **options)
        with pytest.raises(InputError):
            GenerativeModel(policy, RPRM(), **options)  # type: ignore[arg-type]


def test_scripted_judges_are_policies() -> None:
    check_policy(ScriptedJudge(lambda asked: f"first {asked.chance('a'):.3f}\n\nsecond\n\nthird"), [Problem("x"), Problem("y")])
    assert believed("critic", Asked("[Solution] good, bad Your task is", "", 0, 0, "")) == [True, False]


def test_policies_that_tell_nothing_are_read_by_words() -> None:
    async def ask() -> None:
        assert await read_odds(ScriptedJudge(lambda _: ""), Trajectory(Problem("x")), (" Yes", " No")) is None
        assert await read_odds(telling(lambda _: "", lambda _: math.nan), Trajectory(Problem("x")), (" Yes", " No")) is None

    asyncio.run(ask())
