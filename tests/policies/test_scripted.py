"""The scripted solver: its exact values are the truth about what it samples."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from stepward.core import InputError, Problem, Sampling, Trajectory, Until, metered
from stepward.environments.grade_school import GradeSchool, Quantity, World
from stepward.environments.grade_school.corruption import Writer
from stepward.environments.grade_school.judgement import ErrorType
from stepward.environments.grade_school.oracle import oracle_of
from stepward.policies.scripted import ErrorRates, Move, ScriptedSolver
from stepward.testing import check_policy

EASY, FULL = GradeSchool.easy(), GradeSchool.full()
ERRING = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.25, lucky=0.1)
ERRORS = {move for move in Move if move.value in set(ErrorType)} - {Move.REDUNDANT}


def draw(solver: ScriptedSolver, prefix: Trajectory, n: int = 1, *, until: Until = Until.END, seed: int = 0, first: int = 0) -> list[Trajectory]:
    return asyncio.run(solver.sample(prefix, n, until=until, sampling=Sampling(seed=seed, max_steps=1000, max_tokens=100_000), draw=first))


def right(trajectory: Trajectory) -> bool:
    return EASY.answer(trajectory) == trajectory.problem.answer


def own_prefixes(solver: ScriptedSolver, n: int, *, seed: int) -> list[Trajectory]:
    """Prefixes that the solver wrote, of random lengths, on easy and full problems in turn."""
    rng, found = Random(seed), []
    for index in range(n):
        config = FULL if index % 4 == 0 else EASY
        (trajectory,) = draw(solver, Trajectory(config.problem(seed, index)), seed=seed)
        found.append(trajectory.prefix(rng.randrange(len(trajectory))))
    return found


def foreign_prefixes(n: int, *, seed: int) -> list[Trajectory]:
    """Prefixes that the solver could not write: quantities in any order, several errors, fractional values, remarks, unneeded steps."""
    rng, found = Random(seed), []
    for index in range(n):
        problem = (FULL if index % 4 == 0 else EASY).problem(seed, index)
        oracle = oracle_of(problem)
        writer, world = Writer(oracle), oracle.world
        texts: list[str] = []
        for _ in range(rng.randint(1, 8)):
            state = oracle.read(texts)
            quantity = rng.choice(world.plan)
            known = all(parent in state.values for parent in world.quantities[quantity].parents)
            made = writer.corrupt(state, rng.choice([kind for kind in ErrorType if kind is not ErrorType.PREMATURE_ANSWER]), rng.random())
            choices = [made[0] if made else "Let me see.", f"{world.quantities[quantity].title} = {rng.randint(1, 30)}.", writer.repair(quantity)]
            texts.append(rng.choice([*choices, *([writer.derive(state, quantity)[0]] * 3 if known else [])]))
        found.append(Trajectory.from_texts(problem, texts, separator="\n", finished=False))
    return found


def test_the_value_is_the_mean_value_of_the_next_step() -> None:
    rng = Random(0)
    kinds: set[Move] = set()
    for prefix in [*own_prefixes(ERRING, 80, seed=1), *foreign_prefixes(80, seed=2)]:
        law = ERRING.step_law(prefix)
        kinds |= set(law)
        assert math.isclose(sum(law.values()), 1.0, abs_tol=1e-12)
        expected = 0.0
        for move, chance in law.items():
            values = {round(ERRING.q(prefix, ERRING.step(prefix, move, draw=rng.random())), 12) for _ in range(3)}
            assert len(values) == 1, f"all texts of one kind are worth the same: {move} {values}"
            expected += chance * values.pop()
        assert math.isclose(expected, ERRING.value(prefix), abs_tol=1e-9), prefix
    assert kinds == set(Move)


def whole_tree(solver: ScriptedSolver, prefix: Trajectory, memo: dict[str, float]) -> float:
    """P(correct) by following every kind of step to every end, reading each text anew."""
    if prefix.key not in memo:
        if EASY.is_finished(prefix):
            memo[prefix.key] = float(right(prefix))
        else:
            law = solver.step_law(prefix)
            memo[prefix.key] = sum(chance * whole_tree(solver, prefix.extend(solver.step(prefix, move, draw=0.4)), memo) for move, chance in law.items())
    return memo[prefix.key]


def test_the_value_equals_an_exhaustive_enumeration_of_small_problems() -> None:
    for index in range(6):
        start = Trajectory(GradeSchool.easy(max_operations=2).problem(3, index))
        assert math.isclose(ERRING.value(start), whole_tree(ERRING, start, {}), abs_tol=1e-12)


def test_values_in_closed_form_for_one_operation() -> None:
    start = Trajectory(GradeSchool.easy(max_operations=1).problem(4, 0))
    for notice, lucky in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.2), (1.0, 0.0)):
        solver = ScriptedSolver(rates=ErrorRates(), notice=notice, lucky=lucky)
        p, w = 0.02, 0.16  # premature; misstating
        last = (1 - p) + p * lucky
        dirty = p * lucky + (1 - p) * (notice * last + (1 - notice) * lucky)
        value = p * lucky + w * dirty + (1 - p - w) * last
        assert math.isclose(solver.value(start), value, abs_tol=1e-12)


def test_a_perfect_solver_writes_the_gold_solution() -> None:
    solver = ScriptedSolver(rates=ErrorRates.scaled(0.0))
    for problem in FULL.problems(5, 30):
        (trajectory,) = draw(solver, Trajectory(problem))
        assert tuple(step.text for step in trajectory.steps) == problem.reference_steps
        assert trajectory.text == "\n".join(problem.reference_steps)
        assert all(solver.value(prefix) == 1.0 for prefix in trajectory.prefixes())


def test_simulated_success_agrees_with_the_exact_value() -> None:
    prefixes = [*own_prefixes(ERRING, 300, seed=6), *foreign_prefixes(100, seed=7)]
    n = 60
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
    start = Trajectory(EASY.problem(9, 3))
    n, right_by_steps = 600, 0
    for index in range(n):
        trajectory = start
        while not trajectory.ended:
            (trajectory,) = draw(ERRING, trajectory, until=Until.STEP, first=index)
        right_by_steps += right(trajectory)
    value = ERRING.value(start)
    assert abs(right_by_steps - n * value) < 3 * math.sqrt(n * value * (1 - value))


def test_kinds_of_step_occur_as_often_as_the_law_says() -> None:
    start = Trajectory(FULL.problem(10, 1)).extend(ERRING.step(Trajectory(FULL.problem(10, 1)), Move.DERIVE))
    law = ERRING.step_law(start)
    oracle = oracle_of(start.problem)
    state = oracle.read(step.text for step in start.steps)
    n, seen = 4000, dict[str, int]()
    for trajectory in draw(ERRING, start, n, until=Until.STEP):
        error = oracle.step(state, trajectory.steps[-1].text)[0].error
        seen[str(error)] = seen.get(str(error), 0) + 1
    expected: dict[str, float] = {}
    for move, chance in law.items():
        name = "premature_answer" if move is Move.LUCKY_PREMATURE_ANSWER else "None" if move is Move.DERIVE else str(move)
        expected[name] = expected.get(name, 0.0) + n * chance
    assert set(seen) == set(expected)
    chi_square = sum((seen[name] - count) ** 2 / count for name, count in expected.items())
    assert chi_square < 30, (chi_square, seen, expected)  # 8 degrees of freedom: 99.98 % quantile


def test_errors_cost_and_right_steps_pay() -> None:
    n_errors = 0
    for prefix in own_prefixes(ERRING, 80, seed=11):
        law = ERRING.step_law(prefix)
        advantages = {move: ERRING.advantage(prefix, ERRING.step(prefix, move, draw=0.3)) for move in law}
        if has_wrong(prefix):
            if Move.REPAIR in law:
                assert advantages[Move.REPAIR] >= -1e-12, prefix
            continue
        if Move.REDUNDANT in law:
            assert math.isclose(advantages[Move.REDUNDANT], 0.0, abs_tol=1e-12)
        assert advantages.get(Move.DERIVE, 1.0) > 0.0
        assert advantages.get(Move.ANSWER, 1.0) > 0.0
        for move in ERRORS & set(law):
            assert advantages[move] < 0.0, (move, advantages[move], prefix)
            n_errors += 1
    assert n_errors > 200


def has_wrong(prefix: Trajectory) -> bool:
    oracle = oracle_of(prefix.problem)
    state = oracle.read(step.text for step in prefix.steps)
    return any(state.values.get(index, oracle.world.quantities[index].value) != oracle.world.quantities[index].value for index in oracle.world.plan)


# Ann = Mia + 2, Tom = Mia' + 5, the difference of Tom and Ann, where Mia' = 2 * 3: an error in Mia cancels.
CANCELLING = World(
    (
        Quantity("Mia", "pears", "pack", (), (2, 3), 6),
        Quantity("Ann", "pears", "plus", (0,), (2,), 8),
        Quantity("Tom", "pears", "plus", (0,), (5,), 11),
        Quantity("", "difference", "difference", (2, 1), (), 3),
    ),
    3,
)


def test_an_error_that_cancels_out_is_accounted_for() -> None:
    start = Trajectory(EASY.pose(CANCELLING, Random(0)))
    solver = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.0, lucky=0.0)
    slipped = start.extend("Mia's pears = 2 * 3 = 7.")
    assert math.isclose(solver.value(slipped), 0.60 * 0.60 * 0.64 * 0.96), "only a premature answer can still go wrong"
    (end,) = draw(ScriptedSolver(rates=ErrorRates.scaled(0.0), notice=0.0), slipped)
    assert [step.text for step in end.steps[1:]] == [
        "Ann's pears = 7 + 2 = 9.",
        "Tom's pears = 7 + 5 = 12.",
        "The difference = 12 - 9 = 3.",
        "The answer is 3.",
    ]
    assert solver.value(start.extend("Mia's pears = 2 * 3 = 6.").extend("Tom's pears = 6 + 5 = 12.")) == 0.0
    assert oracle_of(start.problem).world.cancels
    assert not any(oracle_of(problem).world.cancels for problem in FULL.problems(20, 100)), "the generator leaves such worlds out"


def test_values_of_finished_and_cut_off_trajectories_are_their_outcomes() -> None:
    start = Trajectory(EASY.problem(12, 0))
    answer = start.problem.answer
    assert ERRING.value(start.extend(f"The answer is {answer}.", finished=True)) == 1.0
    assert ERRING.value(start.extend(f"The answer is {answer}.")) == 1.0
    assert ERRING.value(start.extend("The answer is 4711.", finished=True)) == 0.0
    assert ERRING.value(start.extend("I give up.", finished=True)) == 0.0
    assert math.isnan(ERRING.value(start.extend("Let me see.", truncated=True)))


def test_draws_are_the_same_one_at_a_time_and_in_any_company() -> None:
    for prefix in own_prefixes(ERRING, 20, seed=13):
        for until in Until:
            together = draw(ERRING, prefix, 4, until=until)
            assert together == [draw(ERRING, prefix, until=until, first=index)[0] for index in range(4)]
            fresh = ScriptedSolver(rates=ERRING.rates, notice=ERRING.notice, lucky=ERRING.lucky)
            assert together == draw(fresh, prefix, 4, until=until), "nothing depends on what was asked before"
            again = Trajectory(Problem.from_record(prefix.problem.to_record()), prefix.steps)
            assert together == draw(fresh, again, 4, until=until)


def test_the_state_that_the_solver_keeps_is_the_one_that_the_oracle_reads() -> None:
    for index, problem in enumerate([*EASY.problems(14, 60), *FULL.problems(14, 20)]):
        trajectory = Trajectory(problem)
        while not trajectory.ended:
            (trajectory,) = draw(ERRING, trajectory, until=Until.STEP, seed=index)
            if not trajectory.ended:
                oracle = oracle_of(problem)
                assert ERRING._state(trajectory) == oracle.read(step.text for step in trajectory.steps), trajectory.text


def test_conforms_to_the_policy_protocol() -> None:
    check_policy(ERRING, list(EASY.problems(15, 4)))


def test_limits_truncate_and_count_words() -> None:
    start = Trajectory(FULL.problem(16, 0))
    solver = ScriptedSolver(rates=ErrorRates.scaled(0.0))
    for sampling in (Sampling(max_steps=2), Sampling(max_tokens=13), Sampling(max_step_tokens=5)):
        (trajectory,) = asyncio.run(solver.sample(start, until=Until.END, sampling=sampling))
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
    answered = Trajectory(EASY.problem(18, 0)).extend("The answer is 3.")
    assert draw(ERRING, answered, 2) == [replace(answered, finished=True)] * 2
    with pytest.raises(InputError, match="final answer"):
        ERRING.step_law(answered)
    with pytest.raises(InputError, match="ended"):
        draw(ERRING, answered.prefix(0).extend("The answer is 3.", finished=True))


@pytest.mark.parametrize("settings", [{"notice": 1.5}, {"lucky": -0.1}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        ScriptedSolver(**settings)  # type: ignore[arg-type]


def test_impossible_rates_and_moves_are_refused() -> None:
    with pytest.raises(InputError, match="add up"):
        ErrorRates(arithmetic_slip=0.9, circular=0.2)
    with pytest.raises(InputError, match="must lie in"):
        ErrorRates(redundant=math.nan)
    with pytest.raises(InputError, match="possible"):
        ERRING.step(Trajectory(EASY.problem(19, 0)), Move.REPAIR)


def test_the_fingerprint_names_every_setting() -> None:
    solvers = [ERRING, replace(ERRING, notice=0.2), replace(ERRING, lucky=0.2), replace(ERRING, rates=ErrorRates())]
    assert len({solver.fingerprint for solver in solvers}) == 4
    assert replace(ERRING).fingerprint == ERRING.fingerprint
