"""The deduction prover and oracle agree with z3, which is told first-order formulas and nothing else."""

from __future__ import annotations

from random import Random

from tests.environments.logic import Logic

from stepward.environments.deduction import Deduction, ErrorType, Statement
from stepward.environments.deduction.claims import read_claims
from stepward.environments.deduction.corruption import Writer
from stepward.environments.deduction.oracle import oracle_of
from stepward.environments.deduction.prover import consistent, entails, follows_through, forced

WORDS = ("red", "big", "cold", "kind", "wumpus", "yumpus")
LEVELS = (Deduction.easy(), Deduction.medium(), Deduction.hard())


def random_statement(rng: Random, *, rule: bool) -> Statement:
    n = rng.choice((2, 2, 2, 3)) if rule else rng.choice((1, 1, 1, 2))
    literals = frozenset((word, rng.random() < 0.5) for word in rng.sample(WORDS, n))
    return Statement("" if rule else rng.choice(("Rex", "Fae")), literals)


def test_entailment_of_random_statements_is_that_of_z3() -> None:
    rng, logic = Random(0), Logic()
    found = {True: 0, False: 0}
    for _ in range(1200):
        premises = [random_statement(rng, rule=rng.random() < 0.7) for _ in range(rng.randint(1, 9))]
        conclusion = random_statement(rng, rule=rng.random() < 0.15)
        if not logic.consistent(premises):
            assert not consistent(premises), premises
            continue
        assert consistent(premises), premises
        truth = logic.entails(premises, conclusion)
        assert entails(premises, conclusion) == truth, (premises, conclusion, truth)
        found[truth] += 1
    assert min(found.values()) > 100, found


def test_every_problem_has_exactly_one_right_answer_by_z3() -> None:
    for index in range(150):
        problem = LEVELS[index % 3].problem(1, index)
        world, logic = oracle_of(problem).world, Logic()
        can_be = logic.consistent([*world.statements, world.question])
        can_fail = not logic.entails(world.statements, world.question)
        assert (can_be, can_fail) == (world.answer, not world.answer), problem.prompt


def test_the_finding_of_every_step_right_or_wrong_is_backed_by_z3() -> None:
    """A step follows by the oracle exactly if z3 derives it from what it cites and all of that is known; truth is entailment by the problem."""
    rng = Random(2)
    steps = wrong = 0
    for index in range(140):
        problem = LEVELS[index % 2].problem(2, index)
        oracle, logic = oracle_of(problem), Logic()
        writer, state = Writer(oracle), oracle.start
        for gold in problem.reference_steps[:-1]:
            kinds = rng.sample([kind for kind in ErrorType if kind not in (ErrorType.UNREADABLE, ErrorType.PREMATURE_ANSWER)], 3)
            made = [written.text for kind in kinds if (written := writer.corrupt(state, kind, rng.random())) is not None]
            for text in [gold, *made]:
                finding, _ = oracle.step(state, text)
                claims = read_claims(text)
                if claims is None or len(claims) != 1 or claims[0].statement is None:
                    continue
                cited, statement = claims[0].cited, claims[0].statement
                known = all(oracle.known(state, one) for one in cited)
                assert finding.follows == (known and logic.entails(cited, statement)), (text, finding)
                assert finding.true == logic.entails(oracle.world.statements, statement), (text, finding)
                steps += 1
                wrong += not finding.follows
            state = oracle.step(state, gold)[1]
    assert steps > 1000, steps
    assert wrong > 400, wrong


def test_forced_conclusions_are_entailed_and_complete_on_single_conditions() -> None:
    rng, logic = Random(3), Logic()
    for _ in range(150):
        premises = [random_statement(rng, rule=rng.random() < 0.8) for _ in range(7)]
        premises = [one if not one.who else Statement("Rex", one.literals) for one in premises]
        if not consistent(premises):
            continue
        clauses = [premise.literals for premise in premises]
        units = {next(iter(clause)) for clause in clauses if len(clause) == 1}
        reached = forced(clauses, units)
        for literal in reached:
            assert logic.entails(premises, Statement("Rex", frozenset({literal}))), (premises, literal)


def test_what_is_reached_through_a_conclusion() -> None:
    a, b, c = ("red", True), ("big", True), ("cold", True)
    clauses = [frozenset({("red", False), b}), frozenset({("big", False), c})]  # red -> big -> cold
    assert forced(clauses, {a}) == {a, b, c}
    assert forced(clauses, {a}, never=(b,)) == {a}
    assert follows_through(clauses, set(), b) == {b, c}
    by_cases = [frozenset({a, b}), frozenset({("red", False), c}), frozenset({("big", False), c})]  # red or big; both -> cold
    assert forced(by_cases, set()) == {c}
