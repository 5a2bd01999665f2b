"""Aurora: the vote, the check by one who knows the answer, and the projection on the outcome; SPARK's ways of aggregating verifications."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from tests.labeling.judged import WORLD, believer, judge, label, label_all, says, shown_steps, solution, solved, truths

from stepward.core import InputError, Outcome, Sampling
from stepward.labeling.judges import Aurora, JudgeLabels, Spark
from stepward.labeling.judges.aurora import DISAGREE, TIED, confirmed, project
from stepward.labeling.judges.spark import aggregate
from stepward.labeling.judges.tasks import VIEWS
from stepward.labeling.judges.votes import Tally
from stepward.labeling.precision import precision
from stepward.rewards.generative.scripted import Asked
from stepward.rewards.oracle import OracleReward
from stepward.testing import check_labeler
from stepward.testing.noisy_judge import NoisyJudge


def test_the_projection_finds_an_error_in_what_ends_wrong_and_frees_what_ends_right() -> None:
    """All tallies of three views on two steps, with every word of the reverse judge and every outcome."""
    for rights, reverse, correct in product(product(range(4), repeat=2), product((True, False, None), repeat=2), (True, False, None)):
        votes = [Tally(right, 3 - right) for right in rights]
        before = confirmed(votes, reverse, correct)
        after = project(before, correct)
        bad = [step for step, finding in enumerate(after) if finding.good is False]
        if correct is False:
            assert bad, "a solution that ends wrong has an error"
        for step, finding in enumerate(after):
            vote, knowing = votes[step].majority, reverse[step]
            if correct is True and finding.good is False:
                assert (vote, knowing) in ((False, False), (False, None)), "in a solution that ends right both must object"
            if before[step].good is not None:
                assert after[step].good is before[step].good or correct is False
            if correct is not True and finding.good is True:
                assert vote is True
                assert knowing is not False


def test_the_projected_step_is_the_least_supported_one() -> None:
    before = confirmed([Tally(4, 0), Tally(3, 1), Tally(3, 1)], (True, True, True), False)
    assert [finding.good for finding in before] == [True, True, True]
    after = project(before, False)
    assert [finding.good for finding in after] == [True, False, True]
    assert after[1].value == 0.0
    assert math.isnan(after[1].confidence)
    assert project(before, True) == before


def test_contradiction_and_ties_are_abstentions() -> None:
    found = confirmed([Tally(3, 1), Tally(2, 2)], (False, True), None)
    assert [finding.reason for finding in found] == [DISAGREE, TIED]
    silent = confirmed([Tally(0, 0)], (None,), None)[0]
    assert silent.reason == "no judge gave a verdict"


def test_each_view_has_its_own_words_and_the_reverse_judge_sees_the_answer() -> None:
    prompts: list[str] = []

    def record(asked: Asked) -> str:
        prompts.append(asked.prompt)
        return believer(asked)

    case = solution("good", "bad", "good", outcome=Outcome(0.0, "8"))
    labels = label(Aurora(judge=judge(record), environment=WORLD), case)
    assert labels.hard == (True, False, True)
    assert len(prompts) == len(set(prompts)) == len(VIEWS) + 1
    assert ["[Reference Answer]\n\n7" in prompt for prompt in prompts].count(True) == 1
    assert labels.evidence[1][0] == {"right": 0, "wrong": 4, "reverse": False, "share": 0.0}
    with pytest.raises(InputError, match="views"):
        Aurora(judge=judge(record), environment=WORLD, views=("mystic",))


def test_an_ensemble_is_righter_than_its_judge() -> None:
    """Four views and reverse verification of a judge with 15 % errors: among labels made, fewer errors than the judge alone makes."""
    cases = solved(120)
    noisy = NoisyJudge(WORLD, false_alarm=0.15, miss=0.15, semantics="local", seed=2)
    true = truths(cases, "local")
    alone = precision(label_all(JudgeLabels(judge=noisy, semantics="local"), cases), true)
    ensemble = precision(label_all(Aurora(judge=noisy, environment=WORLD, views=("premises", "recompute", "sceptic")), cases), true)
    assert ensemble.steps.interval()[0] > alone.steps.interval()[1], (ensemble.steps, alone.steps)
    assert ensemble.first_errors.value > alone.first_errors.value


def test_conformant() -> None:
    noisy = NoisyJudge(WORLD, abstain=0.2)
    check_labeler(Aurora(judge=noisy, environment=WORLD), list(solved(3)), any_text=False)
    check_labeler(Spark(judge=noisy, n=3), list(solved(3)), any_text=False)


def test_one_verification_is_the_judge_alone() -> None:
    cases = solved(20)
    noisy = NoisyJudge(WORLD, seed=9)
    alone = JudgeLabels(judge=noisy.variant("draw 0"))
    for spark, single in zip(label_all(Spark(judge=noisy, n=1), cases), label_all(alone, cases), strict=True):
        assert spark.hard == single.hard


def test_sparks_accuracy_rises_with_verifications() -> None:
    cases = solved(100)
    noisy = NoisyJudge(WORLD, false_alarm=0.25, miss=0.25, semantics="local", seed=3)
    found = [precision(label_all(Spark(judge=noisy, n=n, semantics="local"), cases), truths(cases, "local")).steps for n in (1, 5, 15)]
    assert found[0].interval()[1] < found[1].interval()[0]
    assert found[1].interval()[1] < found[2].interval()[0]


def test_aggregations_differ_where_they_should() -> None:
    draws = [(False, False, True), (False, False, True), (True, False, True), (True, True, False), (True, True, True)]
    step = [finding.good for finding in aggregate(draws, "step")]
    first = [finding.good for finding in aggregate(draws, "first-error")]
    assert step == [True, False, True]
    assert first == [False, None, None], "behind the first error an index says nothing"
    assert aggregate(draws, "first-error")[1].reason == "abstained: after the first error", "which is no tie"
    outcome = aggregate([(True, True), (True, True), (False, True), (False, False)][:3], "outcome")
    assert [finding.good for finding in outcome] == [True, True]
    assert [finding.value for finding in outcome] == [1.0, 1.0], "only verifications on the majority's side count"
    tied = aggregate([(True,), (False,)], "outcome")
    assert tied[0].good is None
    assert tied[0].reason == TIED


def test_meta_critique_reviews_the_first_verification_and_revises_it() -> None:
    """A judge that errs on its own but listens to its review: the labels are those of the revision, and the words of both steps are in the prompts."""
    prompts: list[str] = []

    def sloppy(asked: Asked) -> str:
        prompts.append(asked.prompt)
        if "Review this verification" in asked.prompt:
            return "The second verdict overlooks an error."
        truth = ["bad" not in text for text in shown_steps(asked)]
        return says(truth if "[Review]" in asked.prompt else [True] * len(truth), note="first look")

    case = solution("good", "bad")
    labels = label(Spark(judge=judge(sloppy), how="meta", semantics="local"), case)
    assert labels.hard == (True, False)
    assert len(prompts) == 3
    assert "first look" in prompts[1]
    assert "overlooks an error" in prompts[2]
    warm = judge(sloppy, sampling=Sampling(temperature=1.0))
    assert label(Spark(judge=warm, how="hybrid", n=3, semantics="local"), case).evidence[1][0] == {"right": 0, "wrong": 3}
    assert label(Spark(judge=warm, how="step", n=3, semantics="local"), case).hard == (True, True)
    with pytest.raises(InputError, match="words"):
        Spark(judge=OracleReward(WORLD), how="meta")


def test_fingerprints_name_every_parameter() -> None:
    spark = Spark(judge=NoisyJudge(WORLD), n=3)
    others = [replace(spark, n=5), replace(spark, how="outcome"), replace(spark, judge=NoisyJudge(WORLD, seed=1)), replace(spark, semantics="local")]
    assert len({labeler.fingerprint for labeler in (spark, *others)}) == 5
    assert np.isnan(label(Spark(judge=NoisyJudge(WORLD, abstain=1.0), n=3), solved(1)[0]).values).all()
