"""Claims about a policy's own probabilities as a reward, against a policy whose probabilities are known and against plain loops over a tiny model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.policies import tiny_models

from stepward.core import ABSTAINED, InputError, Problem, RequestFailed, TokenLogprobs, Trajectory, Usage, charge, metered
from stepward.engine.loop import run_sync
from stepward.policies.local import LocalPolicy
from stepward.policies.scripted import ScriptedSolver
from stepward.rewards.combine import OUTCOME_ONLY, AnswerConfidence, FollowUpLikelihood, Lifted, StepConfidence
from stepward.rewards.combine.answer_place import answer_place, answer_span
from stepward.testing import check_reward_model


class Typist:
    """Writes letter by letter: a letter that was written before has chance 0.9, a new one 0.2; after "so", an "x" has chance 0.5."""

    fingerprint = "typist"

    async def sample(self, prefix: Trajectory, n: int = 1, **_: Any) -> list[Trajectory]:
        return [prefix] * n

    async def logprobs(self, trajectory: Trajectory) -> TokenLogprobs:
        charge(Usage(policy_prefill=len(trajectory.text), calls=1))
        if "lost" in trajectory.problem.prompt:
            raise RequestFailed("server gone")
        read = trajectory.problem.prompt
        steps = []
        for step in trajectory.steps:
            row = []
            for letter in step.written:
                row.append(math.log(0.5 if letter == "x" and "so" in read else 0.9 if letter in read else 0.2))
                read += letter
            steps.append(tuple(row))
        return TokenLogprobs(tuple(steps))


TYPIST = Typist()


def solution(*texts: str, prompt: str = "ab?") -> Trajectory:
    return Trajectory.from_texts(Problem(prompt), texts, separator="", finished=True)


def test_step_confidences_by_hand() -> None:
    steps = solution("ab", "cc", "", "acd")
    for of, expected in {
        "mean": [0.9, (0.2 + 0.9) / 2, np.nan, (0.9 + 0.9 + 0.2) / 3],
        "min": [0.9, 0.2, np.nan, 0.2],
        "geometric": [0.9, math.sqrt(0.18), np.nan, (0.9 * 0.9 * 0.2) ** (1 / 3)],
    }.items():
        scores = run_sync(StepConfidence(TYPIST, of=of).score(steps))  # type: ignore[arg-type]
        np.testing.assert_allclose(scores.values, expected, err_msg=of)
        assert scores.reasons[2] == f"{ABSTAINED}: the step has no tokens"


def test_the_policys_tokens_are_charged_as_a_reward_models() -> None:
    async def run() -> tuple[Usage, Usage]:
        with metered() as ledger:
            return (await StepConfidence(TYPIST).score(solution("abc"))).usage, ledger.usage

    told, charged = run_sync(run())
    assert told == charged == Usage(reward_tokens=3, calls=1)


def test_a_policy_that_fails_leaves_the_steps_unscored() -> None:
    lost = solution("a", "The answer is 5.", prompt="lost?")
    reason = "reading probabilities failed: server gone"
    assert run_sync(StepConfidence(TYPIST).score(lost)).reasons == (reason, reason)
    assert run_sync(AnswerConfidence(TYPIST).score(lost)).reasons == (OUTCOME_ONLY, reason)
    assert run_sync(FollowUpLikelihood(TYPIST).score(lost)).reasons == (OUTCOME_ONLY, reason)
    assert run_sync(AnswerConfidence(TYPIST).score(lost)).usage.calls == 1, "what failed was paid for"


def test_a_policy_without_probabilities_is_refused() -> None:
    for build in (StepConfidence, AnswerConfidence, FollowUpLikelihood):
        with pytest.raises(InputError, match="cannot tell the probability"):
            build(ScriptedSolver())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not tell entropies"):
        StepConfidence(TYPIST, of="entropy")
    with pytest.raises(InputError, match="confidence must be of"):
        StepConfidence(TYPIST, of="luck")  # type: ignore[arg-type]


def test_answer_confidence_is_the_exact_probability_of_the_answers_letters() -> None:
    scores = run_sync(AnswerConfidence(TYPIST).score(solution("abc", r"so \boxed{x7} end")))
    np.testing.assert_allclose(scores.values, [np.nan, (0.5 + 0.2) / 2])
    assert scores.reasons == (OUTCOME_ONLY, None)
    surer = run_sync(AnswerConfidence(TYPIST).score(solution("7 x7 so", r"\boxed{x7}")))
    np.testing.assert_allclose(surer.values[-1], (0.5 + 0.9) / 2)


def test_a_later_step_does_not_hide_the_answer_and_what_follows_it_is_not_read() -> None:
    stated = run_sync(AnswerConfidence(TYPIST).score(solution("abc", "#### 7")))
    later = run_sync(AnswerConfidence(TYPIST).score(solution("abc", "#### 7", "zzz")))
    assert later.values[-1] == stated.values[-1]
    none = run_sync(AnswerConfidence(TYPIST).score(solution("abc", "no idea")))
    assert none.reasons == (OUTCOME_ONLY, f"{ABSTAINED}: the solution states no final answer")
    assert (none.n_failed, len(run_sync(AnswerConfidence(TYPIST).score(Trajectory(Problem("p")))))) == (0, 0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{42}, that is 42 apples", "42"),
        (r"\boxed{1} then \boxed{ \frac{1}{2} }", r" \frac{1}{2}"),
        ("The answer is 18 dollars.", " 18 dollars"),
        ("18 and 18.\n#### 18", " 18"),
        (r"\boxed 5 apples", " 5"),
        ("nothing", None),
        ("", None),
    ],
)
def test_where_the_answer_stands(text: str, found: str | None) -> None:
    span = answer_span(text)
    assert (None if span is None else text[slice(*span)]) == found


def test_the_last_step_that_states_an_answer_counts() -> None:
    assert answer_place(solution("#### 1", "#### 2", "done")) == (1, 4, 6)


def test_follow_ups_by_hand_and_what_is_common_to_them_cancels() -> None:
    model = FollowUpLikelihood(TYPIST, positive=["ab"], negative=["az"], before="")
    scores = run_sync(model.score(solution("abc")))
    np.testing.assert_allclose(scores.values, [math.log(0.9) - (math.log(0.9) + math.log(0.2)) / 2])
    assert (scores.scale, scores.threshold) == ("logratio", 0.0)
    same = FollowUpLikelihood(TYPIST, positive=["ab", "zz"], negative=["zz", "ab"])
    assert run_sync(same.score(solution("abc"))).values[0] == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(InputError, match="both kinds"):
        FollowUpLikelihood(TYPIST, positive=[])


@pytest.fixture(scope="module")
def policy() -> Iterator[LocalPolicy]:
    tokenizer = tiny_models.byte_level()
    made = LocalPolicy(tiny_models.model("llama", len(tokenizer), context=384), tokenizer, template="raw", separator="\n")
    yield made
    made.close()


def reference(policy: LocalPolicy, trajectory: Trajectory) -> list[list[tuple[float, float]]]:
    """(probability, entropy) of every token of every step: one forward pass a token, no shared code but the tokenizer."""
    encode = policy.tokenizer
    ids = list(encode(trajectory.problem.prompt + "\n")["input_ids"])
    found = []
    for step in trajectory.steps:
        row = []
        for token in encode(step.written)["input_ids"]:
            with torch.no_grad():
                probs = policy.model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)
            row.append((float(probs[token]), float(-(probs * probs.log()).sum())))
            ids.append(token)
        found.append(row)
    return found


def test_confidences_of_a_local_model_equal_a_plain_loop(policy: LocalPolicy) -> None:
    trajectory = Trajectory.from_texts(
        Problem("Tom has 3 apples."), ["So 3 + 4 = 7.", "Six pens are left;", "The answer is 7."], separator="\n", finished=False
    )
    expected = reference(policy, trajectory)
    for of, value in {
        "mean": lambda p, h: p.mean(),
        "min": lambda p, h: p.min(),
        "geometric": lambda p, h: np.exp(np.log(p).mean()),
        "entropy": lambda p, h: np.exp(-h.mean()),
    }.items():
        scores = run_sync(StepConfidence(policy, of=of).score(trajectory))  # type: ignore[arg-type]
        wanted = [value(*np.array(row).T) for row in expected]
        np.testing.assert_allclose(scores.values, wanted, rtol=1e-4, atol=1e-9, err_msg=of)
    assert np.ptp([np.array(row)[:, 1].mean() for row in expected]) > 0.01, "the steps must differ for this to say anything"


def test_answer_confidence_of_a_local_model_equals_a_plain_loop(policy: LocalPolicy) -> None:
    trajectory = Trajectory.from_texts(Problem("Tom has 3 apples."), ["So 3 + 4 = 7.", "The answer is 23."], separator="\n")
    split = Trajectory.from_texts(Problem("Tom has 3 apples."), ["So 3 + 4 = 7.\n", "The answer is", " 23"], separator="")
    expected = np.mean([p for p, _ in reference(policy, split)[-1]])
    assert run_sync(AnswerConfidence(policy).score(trajectory)).values[-1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("of", ["mean", "entropy"])
def test_step_confidence_is_a_reward_model(policy: LocalPolicy, of: str) -> None:
    assert check_reward_model(StepConfidence(policy, of=of))  # type: ignore[arg-type]


def test_the_outcome_confidences_are_reward_models_and_so_are_they_lifted(policy: LocalPolicy) -> None:
    assert check_reward_model(AnswerConfidence(policy), causal=False)
    for model in (AnswerConfidence(TYPIST), FollowUpLikelihood(TYPIST, positive=["yes"], negative=["no"])):
        assert check_reward_model(model, causal=False)
        assert check_reward_model(Lifted(model))


def test_too_long_a_solution_is_unscored_with_the_reason(policy: LocalPolicy) -> None:
    long = Trajectory.from_texts(Problem("p"), ["word " * 400, "#### 7"])
    for model in (StepConfidence(policy), StepConfidence(policy, of="entropy"), AnswerConfidence(policy)):
        scores = run_sync(model.score(long))
        assert "context" in (scores.reasons[-1] or "")
        assert scores.n_failed >= 1
