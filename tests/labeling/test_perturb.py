"""Constructed errors: what each operator claims is what an oracle finds, gates hold, and no bag of words tells errors from controls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from stepward.core import InputError, Problem, Step, Trajectory
from stepward.environments.deduction import Deduction
from stepward.environments.grade_school import GradeSchool
from stepward.environments.grade_school.lexicon import words
from stepward.labeling import OracleLabels
from stepward.labeling.degraded import constructed_pair, length_matched
from stepward.labeling.perturb import ERRORS, OPERATORS, Edit, Injected, Perturbation, confirmed, inject, perturb
from stepward.labeling.perturb.inject import gate
from stepward.labeling.tools import ToolLabels
from stepward.rewards.arithmetic import Arithmetic

WORLD = GradeSchool()
ORACLE = OracleLabels(WORLD, "local")
NO_PLACE_HERE = {"wrong_rounding", "unit_change", "polarity_flip"}  # grade-school steps have no decimals, units or polarity
HERE = tuple(name for name in OPERATORS if name not in NO_PLACE_HERE)


@cache
def right(n: int) -> tuple[Trajectory, ...]:
    """Reference solutions."""
    return tuple(Trajectory.from_texts(problem, problem.reference_steps, separator="\n") for problem in WORLD.problems(1, n))


@cache
def made(name: str) -> tuple[Perturbation, ...]:
    return tuple(found for trajectory in right(100) if (found := perturb(trajectory, name)) is not None)


def oracle_says(perturbation: Perturbation) -> bool | None:
    return asyncio.run(confirmed(perturbation, ORACLE))


@pytest.mark.parametrize("name", HERE)
def test_the_oracle_confirms_what_an_operator_claims(name: str) -> None:
    """At least 95 % of errors are found where they were put, with everything before them right; changes that claim none are right throughout."""
    found = made(name)
    assert len(found) >= {"domain_inconsistency": 20, "dropped_premise": 40}.get(name, 70), f"{name} applies to {len(found)} of 100 solutions"
    share = sum(oracle_says(perturbation) is True for perturbation in found) / len(found)
    assert share >= 0.95, f"{name}: confirmed {share:.3f}"


@pytest.mark.parametrize("name", HERE)
def test_labels_by_construction(name: str) -> None:
    for perturbation in made(name)[:25]:
        local, prefix = perturbation.labels("local"), perturbation.labels("prefix")
        assert len(local) == len(prefix) == len(perturbation.trajectory)
        assert all(local.hard[: perturbation.at])
        assert local.first_error == prefix.first_error == (perturbation.at if perturbation.wrong else -1)
        if perturbation.wrong:
            assert local.hard[perturbation.at] is False
            assert set(local.hard[perturbation.at + 1 :]) <= {None}
            assert set(prefix.hard[perturbation.at :]) == {False}
            assert prefix.error_types[perturbation.at] == name
            if oracle_says(perturbation):
                assert prefix.hard == WORLD.labels(perturbation.trajectory, "prefix").hard
        else:
            assert all(local.hard)
        example = perturbation.example()
        assert example.labels is not None
        assert example.source == f"perturbation:{name}"
    with pytest.raises(InputError, match="local"):
        made(name)[0].labels("value")


@pytest.mark.parametrize("name", HERE)
def test_controls_are_right(name: str) -> None:
    """What stands beside an error is right at the step that is compared, and everywhere before."""
    for perturbation in made(name)[:25]:
        assert perturbation.control is not None
        hard = WORLD.labels(perturbation.control, "local").hard
        assert all(hard[: perturbation.control_at + 1]), (perturbation.control.text, hard)


def test_a_perturbation_is_a_function_of_solution_operator_and_seed() -> None:
    case = right(3)[2]
    for name in HERE:
        assert perturb(case, name, seed=1) == perturb(case, name, seed=1)
    assert len({perturb(case, "number_slip", seed=seed).trajectory.key for seed in range(20)}) > 5  # type: ignore[union-attr]
    with pytest.raises(InputError, match="unknown operator"):
        perturb(case, "magic")
    with pytest.raises(InputError, match="at must be"):
        perturb(case, "number_slip", at=99)


def step(problem: str, *texts: str) -> Trajectory:
    return Trajectory.from_texts(Problem(problem), list(texts), separator="\n")


LENGTHS = ("kilometers", "kilometres", "centimeters", "centimetres", "millimeters", "millimetres", "miles", "yards", "feet", "inches")


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("wrong_rounding", "It takes 10 / 3 = 3.33 hours.", {"It takes 10 / 3 = 3.34 hours."}),
        ("wrong_rounding", "That is 5 / 3 = 1.67.", {"That is 5 / 3 = 1.66."}),
        ("unit_change", "The rope is 12 meters long.", {f"The rope is 12 {unit} long." for unit in LENGTHS}),
        ("polarity_flip", "Tom has more books than Ann.", {"Tom has fewer books than Ann."}),
        ("polarity_flip", "x is not divisible by 3.", {"x is divisible by 3."}),
        ("polarity_flip", "x is divisible by 3.", {"x is not divisible by 3."}),
        ("sign_error", "The change is 3 - 10 = -7.", set()),
        ("sign_error", "The change is 10 - 3 = 7.", {"The change is 3 - 10 = 7."}),
        ("number_slip", "no numbers", set()),
        ("number_slip", "In all 3 + 4 <<3+4=7>> apples.", set()),
        ("off_by_one", "He needs 2 * 4 = 8 eggs, so 8 eggs.", {"He needs 2 * 5 = 10 eggs, so 10 eggs.", "He needs 2 * 3 = 6 eggs, so 6 eggs."}),
        ("unit_change", "Second, we add all the years.", set()),
        ("polarity_flip", "The sum is calculated as follows: add all numbers.", set()),
        ("paraphrase", "The sum is large.", {f"{opener} the sum is large." for opener in ("So", "Then", "Next,", "Now", "Thus")}),
        ("paraphrase", "So, it is large.", set()),
        ("operator_swap", "That makes 8 + 3 = 11.", {"That makes 8 - 3 = 5."}),
        ("domain_inconsistency", "The discount = 20 * 25 / 100 = 5 dollars.", {"The discount = 20 * 25 / 10 = 50 dollars."}),
    ],
)
def test_operators_on_plain_text(name: str, text: str, changed: set[str]) -> None:
    found = {perturbation.trajectory.steps[0].text for seed in range(12) if (perturbation := perturb(step("?", text), name, seed=seed)) is not None}
    assert found <= changed if name == "unit_change" else found == changed
    assert bool(found) == bool(changed)


def test_another_entity_is_one_that_the_problem_names() -> None:
    case = step("Tom has 3 apples. Ann has 4 more than Tom. How many has Ann? Every Monday he eats one.", "Ann has 3 + 4 apples.")
    found = perturb(case, "other_entity")
    assert found is not None
    assert found.trajectory.steps[0].text == "Tom has 3 + 4 apples."
    assert perturb(step("Tom has 3 apples.", "Tom has 3."), "other_entity") is None


def test_a_slip_in_arithmetic_is_refuted_by_exact_arithmetic() -> None:
    tools = ToolLabels(verifiers=(Arithmetic(),))
    found = [perturbation for perturbation in made("number_slip") if "answer" not in perturbation.trajectory.steps[perturbation.at].text]
    assert len(found) > 50
    for perturbation in found:
        assert asyncio.run(tools.label(perturbation.trajectory)).hard[perturbation.at] is False
    consistent = [asyncio.run(tools.label(perturbation.trajectory)).hard[perturbation.at] for perturbation in made("other_quantity")[:40]]
    assert set(consistent) == {True}, "a changed operand has the result that it then gives: only sense is wrong, not arithmetic"


def test_polarity_flips_are_errors_of_deduction() -> None:
    world = Deduction()
    oracle = OracleLabels(world, "local")
    solutions = [Trajectory.from_texts(problem, problem.reference_steps, separator="\n") for problem in world.problems(1, 60)]
    found = [perturbation for solution in solutions if (perturbation := perturb(solution, "polarity_flip")) is not None]
    assert len(found) == 60
    assert sum(asyncio.run(confirmed(perturbation, oracle)) is True for perturbation in found) >= 57


def test_gates() -> None:
    case = step("?", "a = 1 + 1 = 2.", "b = 2 + 1 = 3.", "c = 3 + 1 = 4.")
    steps = case.steps
    other = replace(steps[1], text="b = 2 + 1 = 5.")
    assert gate(case, Edit((steps[0], other, steps[2]), 1, "")) == ""
    assert gate(case, Edit(steps, 1, "")) == "nothing was changed"
    assert gate(case, Edit((steps[0], other, steps[2]), 0, "")) == "another step was changed too"
    assert gate(case, Edit((steps[0], other, steps[2]), 3, "")) == "there is no step 3"
    assert gate(case, Edit((steps[0],), 0, "")) == "3 steps became 1"
    assert gate(case, Edit((steps[0], Step(" "), steps[2]), 1, "")) == "the step is empty"


@cache
def injected(n: int) -> Injected:
    return asyncio.run(inject(right(n), ERRORS, seed=1))


def test_injection_drops_what_the_oracle_does_not_confirm_and_counts_it() -> None:
    kept = asyncio.run(inject(right(100), ("dropped_premise",), seed=1, confirm=ORACLE))
    assert len(kept.errors) == len(kept.controls) == kept.confirmed["dropped_premise"]
    assert kept.made["dropped_premise"] == kept.confirmed["dropped_premise"] + kept.refuted["dropped_premise"]
    assert kept.refuted["dropped_premise"] > 0, "the operator is not perfect: the gate has something to do"
    assert all(oracle_says(error) for error in kept.errors)
    assert kept.share("dropped_premise") == kept.shares["dropped_premise"]
    assert math.isnan(kept.share("unit_change"))


def test_errors_and_controls_are_alike_in_number_and_kind() -> None:
    found = injected(400)
    assert len(found.errors) == len(found.controls) == 400
    assert len(found.made) == len(HERE) - 2, "every operator that applies is drawn"
    assert all(not control.wrong for control in found.controls)
    for name, count in found.made.items():
        assert count >= (3 if name == "domain_inconsistency" else 10), (name, count)


def bags(texts: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    counts = np.zeros((len(texts), len(vocabulary)))
    for row, text in enumerate(texts):
        for word in words(text):
            if word in vocabulary:
                counts[row, vocabulary[word]] += 1.0
    return counts


def bag_of_words_auc(errors: Sequence[str], controls: Sequence[str]) -> tuple[float, float]:
    """Area under the ROC curve of a logistic regression on word counts, trained on the first half and read on the second; its standard error at chance."""
    half = len(errors) // 2
    vocabulary = {word: index for index, word in enumerate(sorted({word for text in (*errors[:half], *controls[:half]) for word in words(text)}))}
    x, y = bags([*errors[:half], *controls[:half]], vocabulary), np.repeat([1.0, 0.0], half)
    weights, bias = np.zeros(x.shape[1]), 0.0
    for _ in range(300):
        residual = 1.0 / (1.0 + np.exp(-(x @ weights + bias))) - y
        weights -= 0.3 * (x.T @ residual + weights) / len(y)
        bias -= 0.3 * residual.mean()
    one, zero = (bags(texts[half:], vocabulary) @ weights for texts in (errors, controls))
    wins = (one[:, None] > zero[None, :]).mean() + 0.5 * (one[:, None] == zero[None, :]).mean()
    return float(wins), math.sqrt((len(one) + len(zero) + 1) / (12 * len(one) * len(zero)))


def meant(perturbations: Sequence[Perturbation]) -> list[str]:
    return [perturbation.trajectory.steps[perturbation.at].text for perturbation in perturbations]


def test_a_bag_of_words_cannot_tell_errors_from_controls() -> None:
    """Chance within three standard errors. The same errors are told at once from solutions left as they were: what gives them away is wording, not sense."""
    found = injected(600)
    auc, standard_error = bag_of_words_auc(meant(found.errors), meant(found.controls))
    assert abs(auc - 0.5) < 3 * standard_error, (auc, standard_error)
    plain = [error.control.steps[error.control_at].text for error in found.errors if error.control is not None]
    telltale, _ = bag_of_words_auc(meant(found.errors), plain)
    assert telltale > 0.7, "the test can fail: unreworded controls are recognised"


def test_pairs_of_error_and_control_are_of_one_length() -> None:
    found = injected(400)
    pairs = [pair for error, control in zip(found.errors, found.controls, strict=True) if (pair := constructed_pair(error, control)) is not None]
    assert len(pairs) > 150
    for pair in pairs:
        assert length_matched(pair.chosen, pair.rejected)
        assert WORLD.labels(Trajectory(pair.prefix.problem, (*pair.prefix.steps, *pair.chosen)), "local").hard[-1] is True
        assert pair.swapped().swapped() == pair
    longer = [len(pair.chosen[0].text.split()) - len(pair.rejected[0].text.split()) for pair in pairs]
    assert abs(float(np.mean(np.sign(longer)))) < 0.1, "neither side is the longer one as a rule"
