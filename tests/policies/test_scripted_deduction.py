"""The scripted reasoner: its exact values are the truth about what it samples."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from stepward.core import InputError, Problem, Sampling, Trajectory, Until, metered
from stepward.environments.deduction import Deduction, ErrorType
from stepward.environments.deduction.corruption import Writer
from stepward.environments.deduction.oracle import oracle_of
from stepward.environments.deduction.statement import fact_text
from stepward.policies.load import load_policy
from stepward.policies.scripted import Inference, InferenceRates, ScriptedReasoner
from stepward.testing import check_policy

EASY, MEDIUM, HARD = Deduction.easy(), Deduction.medium(), Deduction.hard()
LEVELS = (EASY, MEDIUM, EASY, HARD)
ERRING = ScriptedReasoner(rates=InferenceRates.scaled(1.5), notice=0.25, lucky=0.15)
ERRORS = {move for move in Inference if move.value in set(ErrorType)} - {Inference.IRRELEVANT}


def draw(reasoner: ScriptedReasoner, prefix: Trajectory, n: int = 1, *, until: Until = Until.END, seed: int = 0, first: int = 0) -> list[Trajectory]:
    return asyncio.run(reasoner.sample(prefix, n, until=until, sampling=Sampling(seed=seed, max_steps=1000, max_tokens=100_000), draw=first))


def right(trajectory: Trajectory) -> bool:
    return EASY.answer(trajectory) == trajectory.problem.answer


def own_prefixes(reasoner: ScriptedReasoner, n: int, *, seed: int) -> list[Trajectory]:
    """Prefixes that the reasoner wrote, of random lengths, on problems of all levels."""
    rng, found = Random(seed), []
    for index in range(n):
        (trajectory,) = draw(reasoner, Trajectory(LEVELS[index % 4].problem(seed, index)), seed=seed)
        found.append(trajectory.prefix(rng.randrange(len(trajectory))))
    return found


def foreign_prefixes(n: int, *, seed: int) -> list[Trajectory]:
    """Prefixes that the reasoner could not write: conclusions in any order, true and false, several errors, retractions of anything, remarks."""
    rng, found = Random(seed), []
    for index in range(n):
        problem = LEVELS[index % 4].problem(seed, index)
        oracle = oracle_of(problem)
        writer, world = Writer(oracle), oracle.world
        texts: list[str] = []
        for _ in range(rng.randint(1, 8)):
            state = oracle.read(texts)
            node = rng.choice((*world.plan, *world.shadow, *world.extras))
            made = writer.corrupt(state, rng.choice([kind for kind in ErrorType if kind is not ErrorType.PREMATURE_ANSWER]), rng.random())
            choices = [made.text if made and made.statement else "Let me see.", world.text(node), world.text(node, node.conclusion.opposite)]
            choices += [f"{fact_text(node.conclusion)}.", world.text(node, premises=(rng.choice((*world.plan, *world.shadow)).conclusion,))]
            choices += [writer.repair(rng.choice((*state.concluded, node.conclusion))).text]
            texts.append(rng.choice(choices))
        if not oracle.read(texts).answered:
            found.append(Trajectory.from_texts(problem, texts, separator="\n", finished=False))
    return found


def test_the_value_is_the_mean_value_of_the_next_step() -> None:
    rng = Random(0)
    kinds: set[Inference] = set()
    for prefix in [*own_prefixes(ERRING, 100, seed=1), *foreign_prefixes(120, seed=2)]:
        law = ERRING.step_law(prefix)
        kinds |= set(law)
        assert math.isclose(sum(law.values()), 1.0, abs_tol=1e-12)
        expected = 0.0
        for move, chance in law.items():
            values = {round(ERRING.q(prefix, ERRING.step(prefix, move, draw=rng.random())), 10) for _ in range(3)}
            assert len(values) == 1, f"all texts of one kind are worth the same: {move} {values} {prefix}"
            expected += chance * values.pop()
        assert math.isclose(expected, ERRING.value(prefix), abs_tol=1e-8), prefix
    assert kinds == set(Inference)


def horizon(reasoner: ScriptedReasoner, start: Trajectory, steps: int) -> tuple[float, float]:
    """P(right) and P(not ended) after some steps, by following every kind of step and reading each text anew.

    Prefixes that state the same are one: repairs lead back to what was stated before.
    """
    at: dict[str, tuple[Trajectory, float]] = {start.key: (start, 1.0)}
    won = 0.0
    for _ in range(steps):
        after: dict[str, tuple[Trajectory, float]] = {}
        for prefix, chance in at.values():
            for move, share in reasoner.step_law(prefix).items():
                longer = prefix.extend(reasoner.step(prefix, move, draw=0.4))
                if EASY.is_finished(longer):
                    won += chance * share * right(longer)
                    continue
                key = repr(oracle_of(prefix.problem).read(step.text for step in longer.steps))
                shortest, sofar = after.get(key, (longer, 0.0))
                after[key] = (shortest, sofar + chance * share)
        at = after
    return won, sum(chance for _, chance in at.values())


def test_the_value_equals_an_exhaustive_enumeration_of_small_problems() -> None:
    config = replace(EASY, max_steps=2)
    for index in range(5):
        start = Trajectory(config.problem(3, index))
        won, left = horizon(ERRING, start, 26)
        assert left < 2e-5
        assert won - 1e-12 <= ERRING.value(start) <= won + left + 1e-12


def test_values_in_closed_form_for_one_derivation() -> None:
    start = Trajectory(replace(EASY, max_steps=1, max_distractors=0).problem(4, 0))
    for notice, lucky in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.2), (1.0, 0.0)):
        reasoner = ScriptedReasoner(rates=InferenceRates(), notice=notice, lucky=lucky)
        p, w = 0.03, 0.17  # premature; wrong conclusions
        settled = (1 - p) + p * lucky
        # the wrong conclusion settles the question wrongly: verdict, or repair and start again
        sure = p * lucky + (1 - p) * (1 - notice) * lucky
        value = (p * lucky + w * sure + (1 - p - w) * settled) / (1 - w * (1 - p) * notice)
        assert math.isclose(reasoner.value(start), value, abs_tol=1e-12)


def test_a_perfect_reasoner_writes_the_gold_solution() -> None:
    reasoner = ScriptedReasoner(rates=InferenceRates.scaled(0.0))
    for config in (EASY, MEDIUM, HARD):
        for problem in config.problems(5, 12):
            (trajectory,) = draw(reasoner, Trajectory(problem))
            assert tuple(step.text for step in trajectory.steps) == problem.reference_steps
            assert trajectory.text == "\n".join(problem.reference_steps)
            assert all(reasoner.value(prefix) == 1.0 for prefix in trajectory.prefixes())


def test_a_reasoner_that_errs_and_repairs_for_ever_is_worth_nothing() -> None:
    reasoner = ScriptedReasoner(rates=replace(InferenceRates.scaled(0.0), wrong_polarity=1.0), notice=1.0)
    start = Trajectory(replace(EASY, max_steps=1).problem(6, 0))
    assert reasoner.value(start) == 0.0
    (trajectory,) = asyncio.run(reasoner.sample(start, until=Until.END, sampling=Sampling(max_steps=30)))
    assert trajectory.truncated


def test_simulated_success_agrees_with_the_exact_value() -> None:
    prefixes = [*own_prefixes(ERRING, 240, seed=6), *foreign_prefixes(120, seed=7)]
    n = 50
    values = np.array([ERRING.value(prefix) for prefix in prefixes])
    counts = np.array([sum(map(right, draw(ERRING, prefix, n, seed=8))) for prefix in prefixes])
    spread = n * values * (1 - values)
    certain = spread < 1e-12
    assert (counts[certain] == n * values[certain]).all(), "a certain value has certain completions"
    errors, spread = (counts - n * values)[~certain], spread[~certain]
    mean_z = errors.sum() / math.sqrt(spread.sum())
    assert abs(mean_z) < 3, f"mean signed error is {mean_z:.2f} standard errors"
    ratio = float((errors**2).sum() / spread.sum())
    assert abs(ratio - 1) < 3 * math.sqrt(2 / len(errors)) * 1.3, f"empirical over binomial variance is {ratio:.3f}"
    z = errors / np.sqrt(spread)
    assert np.abs(z[spread > 2]).max() < 4.5


def test_stepping_and_writing_to_the_end_follow_one_law() -> None:
    start = Trajectory(MEDIUM.problem(9, 3))
    n, right_by_steps = 500, 0
    for index in range(n):
        trajectory = start
        while not trajectory.ended:
            (trajectory,) = draw(ERRING, trajectory, until=Until.STEP, first=index)
        right_by_steps += right(trajectory)
    value = ERRING.value(start)
    assert abs(right_by_steps - n * value) < 3 * math.sqrt(n * value * (1 - value))


def test_kinds_of_step_occur_as_often_as_the_law_says() -> None:
    problem = next(problem for problem in HARD.problems(10, 40) if oracle_of(problem).world.extras)
    start = Trajectory(problem).extend(ERRING.step(Trajectory(problem), Inference.DERIVE))
    law = ERRING.step_law(start)
    oracle = oracle_of(problem)
    state = oracle.read(step.text for step in start.steps)
    n, seen = 4000, dict[str, int]()
    for trajectory in draw(ERRING, start, n, until=Until.STEP):
        error = oracle.step(state, trajectory.steps[-1].text)[0].error
        seen[str(error)] = seen.get(str(error), 0) + 1
    expected: dict[str, float] = {}
    for move, chance in law.items():
        name = "premature_answer" if move is Inference.LUCKY_PREMATURE_ANSWER else "None" if move is Inference.DERIVE else str(move)
        expected[name] = expected.get(name, 0.0) + n * chance
    assert set(seen) == set(expected)
    chi_square = sum((seen[name] - count) ** 2 / count for name, count in expected.items())
    assert chi_square < 26, (chi_square, seen, expected)  # 6 degrees of freedom: 99.98 % quantile


def test_errors_are_recognised_cost_and_right_steps_pay() -> None:
    n_errors = 0
    for prefix in own_prefixes(ERRING, 80, seed=11):
        law = ERRING.step_law(prefix)
        oracle = oracle_of(prefix.problem)
        state = oracle.read(step.text for step in prefix.steps)
        steps = {move: ERRING.step(prefix, move, draw=0.3) for move in law}
        advantages = {move: ERRING.advantage(prefix, step) for move, step in steps.items()}
        if Inference.REPAIR in law:
            assert advantages[Inference.REPAIR] >= -1e-12, prefix
            continue
        if Inference.IRRELEVANT in law:
            assert math.isclose(advantages[Inference.IRRELEVANT], 0.0, abs_tol=1e-12)
        assert advantages.get(Inference.DERIVE, 1.0) > 0.0
        assert advantages.get(Inference.ANSWER, 1.0) > 0.0
        for move in ERRORS & set(law):
            assert advantages[move] < 0.0, (move, advantages[move], prefix)
            error = oracle.step(state, steps[move].text)[0].error
            late = move is Inference.PREMATURE_ANSWER and oracle.world.goal in state.concluded
            assert error == ("wrong_polarity" if late else str(move)), (steps[move].text, prefix)
            n_errors += 1
    assert n_errors > 150


def test_the_value_first_falls_at_the_first_error() -> None:
    n = 0
    for problem in MEDIUM.problems(12, 60):
        (trajectory,) = draw(ERRING, Trajectory(problem))
        first = MEDIUM.judge(trajectory).first_error
        values = [ERRING.value(trajectory.prefix(k)) for k in range(len(trajectory) + 1)]
        stop = len(trajectory) if first < 0 else first
        assert all(b >= a - 1e-12 for a, b in pairwise(values[: stop + 1]))
        if first >= 0 and not (first == len(trajectory) - 1 and right(trajectory)):
            assert values[first + 1] < values[first]
            n += 1
    assert n > 20


def test_values_of_finished_and_cut_off_trajectories_are_their_outcomes() -> None:
    start = Trajectory(EASY.problem(12, 0))
    other = "false" if start.problem.answer == "true" else "true"
    assert ERRING.value(start.extend(f"So the statement is {start.problem.answer}.", finished=True)) == 1.0
    assert ERRING.value(start.extend(f"So the statement is {start.problem.answer}.")) == 1.0
    assert ERRING.value(start.extend(f"So the statement is {other}.", finished=True)) == 0.0
    assert ERRING.value(start.extend("I give up.", finished=True)) == 0.0
    assert math.isnan(ERRING.value(start.extend("Let me see.", truncated=True)))


def test_draws_are_the_same_one_at_a_time_and_in_any_company() -> None:
    for prefix in own_prefixes(ERRING, 16, seed=13):
        for until in Until:
            together = draw(ERRING, prefix, 4, until=until)
            assert together == [draw(ERRING, prefix, until=until, first=index)[0] for index in range(4)]
            fresh = replace(ERRING)
            assert together == draw(fresh, prefix, 4, until=until), "nothing depends on what was asked before"
            again = Trajectory(Problem.from_record(prefix.problem.to_record()), prefix.steps)
            assert together == draw(fresh, again, 4, until=until)


def test_the_state_that_the_reasoner_keeps_is_the_one_that_the_oracle_reads() -> None:
    for index, problem in enumerate([*EASY.problems(14, 40), *MEDIUM.problems(14, 30), *HARD.problems(14, 10)]):
        trajectory = Trajectory(problem)
        while not trajectory.ended:
            (trajectory,) = draw(ERRING, trajectory, until=Until.STEP, seed=index)
            if not trajectory.ended:
                assert ERRING._state(trajectory) == oracle_of(problem).read(step.text for step in trajectory.steps), trajectory.text


def test_conforms_to_the_policy_protocol() -> None:
    check_policy(ERRING, list(EASY.problems(15, 4)))


def test_limits_truncate_and_count_words() -> None:
    start = Trajectory(HARD.problem(16, 0))
    reasoner = ScriptedReasoner(rates=InferenceRates.scaled(0.0))
    for sampling in (Sampling(max_steps=2), Sampling(max_tokens=13), Sampling(max_step_tokens=5)):
        (trajectory,) = asyncio.run(reasoner.sample(start, until=Until.END, sampling=sampling))
        assert trajectory.truncated
        assert not trajectory.finished
        assert sum(step.n_tokens or 0 for step in trajectory.steps) <= sampling.max_tokens
        assert all((step.n_tokens or 0) <= sampling.max_step_tokens for step in trajectory.steps)
        assert len(trajectory) <= sampling.max_steps


def test_usage_is_words_written_and_read() -> None:
    start = Trajectory(EASY.problem(17, 0))
    with metered() as ledger:
        drawn = draw(ERRING, start, 3)
    assert ledger.usage.policy_tokens == sum(step.n_tokens or 0 for trajectory in drawn for step in trajectory.steps)
    assert ledger.usage.policy_prefill > 10
    assert ledger.usage.calls == 1


def test_a_prefix_that_answers_has_nothing_left_to_write() -> None:
    answered = Trajectory(EASY.problem(18, 0)).extend("So the statement is true.")
    assert draw(ERRING, answered, 2) == [replace(answered, finished=True)] * 2
    with pytest.raises(InputError, match="final answer"):
        ERRING.step_law(answered)
    with pytest.raises(InputError, match="ended"):
        draw(ERRING, answered.prefix(0).extend("So the statement is true.", finished=True))


@pytest.mark.parametrize("settings", [{"notice": 1.5}, {"lucky": -0.1}, {"notice": math.nan}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        ScriptedReasoner(**settings)  # type: ignore[arg-type]


def test_impossible_rates_and_moves_are_refused() -> None:
    with pytest.raises(InputError, match="add up"):
        InferenceRates(invalid_inference=0.9, circular=0.2)
    with pytest.raises(InputError, match="must lie in"):
        InferenceRates(irrelevant=math.nan)
    with pytest.raises(InputError, match="possible"):
        ERRING.step(Trajectory(EASY.problem(19, 0)), Inference.REPAIR)


def test_the_fingerprint_names_every_setting_and_the_policy_has_a_specification() -> None:
    reasoners = [ERRING, replace(ERRING, notice=0.2), replace(ERRING, lucky=0.2), replace(ERRING, rates=InferenceRates())]
    assert len({reasoner.fingerprint for reasoner in reasoners}) == 4
    assert replace(ERRING).fingerprint == ERRING.fingerprint
    assert load_policy("scripted:deduction").fingerprint == ScriptedReasoner().fingerprint
