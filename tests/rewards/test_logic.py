"""Statements of a deduction are proved, refuted with what they clash with, or left alone."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from stepward.core import InputError, MissingExtra, Problem, Trajectory
from stepward.engine.loop import run_sync
from stepward.engine.workers import Limits
from stepward.environments.deduction import Deduction
from stepward.environments.deduction.prover import entails
from stepward.environments.deduction.statement import Literal, Statement
from stepward.labeling.perturb.logic import corrupt_logic, corruptions
from stepward.labeling.tools import ToolLabels
from stepward.rewards.logic import Logic
from stepward.rewards.logic.formula import Atom, Every, Formula, Join, Not, any_of, constants, from_json, reading, show, to_json
from stepward.rewards.logic.ground import NotGround, normal
from stepward.rewards.logic.notation import read_formula
from stepward.rewards.logic.prover import Prover
from stepward.rewards.logic.run import check
from stepward.rewards.verifiers import State, StepVerdict, ToolVerifier, Verifier, load_verifier

RULES = "Wumpuses are not sour. Every wumpus is a tumpus. Each tumpus is big. Every lempus is sour. Max is a wumpus."
ASKED = f"{RULES} Is the following statement true or false? Max is sour."


@pytest.fixture(scope="module")
def logic() -> Logic:
    return Logic()


def judged(verifier: Logic, problem: str, *steps: str) -> list[StepVerdict]:
    return list(run_sync(ToolVerifier([verifier]).judge(Trajectory.from_texts(Problem(problem), list(steps), finished=True))))


def states(verifier: Logic, problem: str, *steps: str) -> list[str]:
    return [verdict.state.value for verdict in judged(verifier, problem, *steps)]


@pytest.mark.parametrize(
    ("step", "state", "kind"),
    [
        ("Max is a tumpus.", "supported", None),
        ("So Max is big.", "supported", None),
        ("Therefore, Max isn't sour.", "supported", None),
        ("Since Max is a wumpus and every wumpus is a tumpus, Max is a tumpus.", "supported", None),
        ("Max is a wumpus, so Max is a tumpus and big.", "supported", None),
        ("Max is not sour because Max is a wumpus and wumpuses are not sour.", "supported", None),
        ("Every wumpus is big.", "supported", None),
        ("Max is sour.", "refuted", "contradiction"),
        ("Max is not a tumpus.", "refuted", "contradiction"),
        ("Every tumpus is a wumpus.", "refuted", "not entailed"),
        ("Max is a lempus.", "refuted", "contradiction"),
        ("Since Max is a lempus and every lempus is sour, Max is sour.", "refuted", "contradiction"),
        ("The statement is false.", "supported", None),
        ("The answer is True.", "refuted", "contradiction"),
        ("It is false that Max is sour.", "supported", None),
        ("It does not follow that every tumpus is a wumpus.", "supported", None),
        ("It does not follow that Max is big.", "refuted", "retraction"),
        ("Max is happy.", "abstain", None),  # the problem does not speak of it
        ("Rex is big.", "abstain", None),
        ("Suppose Max is sour.", "abstain", None),
        ("Is Max sour?", "abstain", None),
        ("We need to determine whether Max is sour.", "abstain", None),
        ("Max might be sour.", "abstain", None),
        ("The statement is true if Max is sour.", "abstain", None),
        ("Let me think about it.", "abstain", None),
        ("Statement: Max is sour.", "abstain", None),  # the question told again
    ],
)
def test_a_step_is_held_against_the_problem(logic: Logic, step: str, state: str, kind: str | None) -> None:
    (verdict,) = judged(logic, ASKED, step)
    assert (verdict.state.value, verdict.kind) == (state, kind), verdict


def test_evidence_is_the_premises_used_and_none_of_them_can_be_left_out(logic: Logic) -> None:
    steps = ["Max is a tumpus.", "Max is big."]
    first, second = judged(logic, ASKED, *steps)
    assert first.deciding[0].evidence["premises"] == ("Every wumpus is a tumpus", "Max is a wumpus")
    assert second.deciding[0].evidence["premises"] == ("Each tumpus is big", "step 1: Max is a tumpus"), "what was just derived, not the whole way again"
    for gone in ("Every wumpus is a tumpus.", "Max is a wumpus."):
        assert states(logic, ASKED.replace(gone, ""), steps[0]) != ["supported"], gone
    (clash,) = judged(logic, ASKED, "Max is a lempus.")
    assert set(clash.deciding[0].evidence["premises"]) == {"Every lempus is sour", "Wumpuses are not sour", "Max is a wumpus"}
    (loose,) = judged(logic, ASKED, "Every tumpus is a wumpus.")
    assert loose.deciding[0].evidence["counterexample"], "a world in which it does not hold"


def test_renaming_everything_changes_no_verdict(logic: Logic) -> None:
    steps = ["Max is a tumpus.", "Max is sour.", "Max is big.", "Every tumpus is a wumpus."]
    names = {"Max": "Fae", "wumpus": "grimpus", "tumpus": "shumpus", "lempus": "brimpus", "sour": "loud", "big": "dull", "Wumpus": "Grimpus"}

    def renamed(text: str) -> str:
        for old, new in names.items():
            text = text.replace(old, new)
        return text

    assert states(logic, ASKED, *steps) == states(logic, renamed(ASKED), *map(renamed, steps)) == ["supported", "refuted", "supported", "refuted"]


@pytest.mark.parametrize(
    ("problem", "step", "state"),
    [
        (f"{RULES} True or false: Max is sour.", "Every tumpus is a wumpus.", "refuted"),
        (RULES, "Every tumpus is a wumpus.", "abstain"),  # nothing asks for a deduction: something may be left out
        (RULES, "Max is sour.", "refuted"),
        (f"{RULES} Most tumpuses behave oddly. True or false: Max is sour.", "Every tumpus is a wumpus.", "abstain"),  # not all of it was read
        (f"{RULES} Most tumpuses behave oddly. True or false: Max is sour.", "Max is sour.", "refuted"),
        (f"{RULES} Max is sour. True or false: Max is sour.", "Max is a tumpus.", "abstain"),  # the problem contradicts itself
        ("The door is open. Tom shuts it.", "The door is not open.", "abstain"),  # no deduction: things change
        ("The cat is red. Every cat is big. True or false: The cat is big.", "The cat is big.", "abstain"),  # is the cat a cat?
        ("7 is a prime number. True or false: 7 is a number.", "7 is a number.", "abstain"),
        ("Max is either red or big. Max is red. True or false: Max is big.", "Max is not big.", "abstain"),  # may be both
        ("Max is red or big. Max is red. True or false: Max is big.", "Max is not big.", "abstain"),
        ("Max is red or big. Max is not red. True or false: Max is big.", "Max is big.", "supported"),
        ("Max is either red or big. Max is not red. True or false: Max is big.", "Max is big.", "supported"),
        ("Rex is red. Max is big. True or false: Max is red.", "Max is red.", "refuted"),
        ("Max is a cat. Max is red. Rex is a cat. Rex is not red. True or false: Rex is red.", "All cats are not red.", "abstain"),  # or: not all cats are
        ("Max is a cat. Max is red. Rex is a cat. Rex is not red. True or false: Rex is red.", "Cats are not red.", "refuted"),
        ("Every cat is big. Cats are red. Max is odd. True or false: Max is red.", "Some big are red.", "abstain"),  # if there are cats
        ("Every cat is big. Cats are red. Max is odd. True or false: Max is red.", "Some red are odd.", "refuted"),
        ("Max is a cat. Is the statement true, false, or unknown? Max is big.", "The statement is not true.", "abstain"),
        ("p → q. p. Does q follow from these? True or false: q", "q", "supported"),
        ("p → q\np\nTrue or false: q", "From p → q and p, we get q.", "supported"),
        ("p → q\nq\nTrue or false: p", "∴ p", "refuted"),
        ("p → q\n¬q\nTrue or false: p", "Therefore ¬p", "supported"),
        ("∀x (Cat(x) → ¬Dog(x))\nCat(tom)\nTrue or false: Dog(tom)", "Dog(tom)", "refuted"),
    ],
)
def test_what_is_not_entailed_is_refuted_only_where_nothing_can_be_missing(logic: Logic, problem: str, step: str, state: str) -> None:
    (verdict,) = judged(logic, problem, step)
    assert verdict.state.value == state, verdict


def test_an_open_verifier_never_refutes_what_merely_does_not_follow(logic: Logic) -> None:
    assert states(Logic(closed=False), ASKED, "Every tumpus is a wumpus.", "Max is sour.") == ["abstain", "refuted"]
    assert Logic(closed=False).fingerprint != logic.fingerprint


def test_later_steps_rest_on_earlier_ones_that_were_not_refuted(logic: Logic) -> None:
    told = states(logic, f"{RULES} Is it true or false that Max is sour?", "Rex is a lempus.", "Rex is sour.", "Rex is not sour.")
    assert told == ["abstain", "supported", "abstain"], "an unchecked step may be built on; what clashes with it is doubted, not refuted"
    wrong = judged(logic, "Every cat is red. Every red is big. Max is odd. True or false: Max is big.", "Max is a cat.", "Max is red.", "Max is odd.")
    assert [verdict.state.value for verdict in wrong] == ["refuted", "abstain", "supported"]
    assert "refuted step" in wrong[1].reason


def test_a_supposition_stops_refutations_but_not_proofs(logic: Logic) -> None:
    assert states(logic, ASKED, "Assume Max is a lempus.", "Then Max is sour.", "Max is a tumpus.") == ["abstain", "abstain", "supported"]


def test_what_cannot_be_read_stops_refutations_for_want_of_a_proof_only(logic: Logic) -> None:
    told = states(logic, ASKED, "Whatever tumpuses do, they do it well.", "Every tumpus is a wumpus.", "Max is sour.")
    assert told == ["abstain", "abstain", "refuted"]


def test_a_conclusion_that_lacks_one_of_its_reasons_is_doubted_and_not_refuted(logic: Logic) -> None:
    (verdict,) = judged(logic, ASKED, "Since Max is a wumpus, Max is a tumpus.")
    assert verdict.state is State.ABSTAIN
    assert [doubt.kind for doubt in verdict.doubts] == ["missing premise"]


def test_unknown_is_a_verdict_where_the_problem_offers_it(logic: Logic) -> None:
    asks = "Based on the above, is the following statement true, false, or unknown?"
    problem = f"The cat chases the dog. If something chases the dog then it is rough. {asks} The dog is rough."
    assert states(logic, problem, "The statement is unknown.") == ["supported"]
    assert states(logic, problem, "The statement is true.") == ["refuted"]
    assert states(logic, problem.replace("The dog is rough.", "The cat is rough."), "The statement is unknown.") == ["refuted"]
    options = f"{ASKED}\nOptions:\nA) True\nB) False"
    assert states(logic, options, "The answer is B.") == ["supported"]
    assert states(logic, options, "The answer is A) True") == ["refuted"]


TABLE = "| p | q | p → q | ¬p ∨ q |\n|---|---|---|---|\n| T | T | T | T |\n| T | F | {cell} | F |\n"


def test_truth_tables_are_checked_row_by_row_whatever_is_asked(logic: Logic) -> None:
    assert states(logic, "Make a table.", TABLE.format(cell="F")) == ["supported"]
    (verdict,) = judged(logic, "Make a table.", TABLE.format(cell="T"))
    assert (verdict.state, verdict.kind, verdict.deciding[0].reason) == (State.REFUTED, "truth table", "p → q is false")
    assert states(logic, "Scores.", "| a | b | total |\n|---|---|---|\n| 1 | 0 | 0 |") == ["abstain"]


def _clause(statement: Statement) -> Formula:
    literals = [Atom(word, (statement.who or "x",)) if holds else Not(Atom(word, (statement.who or "x",))) for word, holds in sorted(statement.literals)]
    return any_of(*literals) if statement.who else Every("x", any_of(*literals))


def _statement(draw: random.Random) -> Statement:
    literals: list[Literal] = [(word, draw.random() < 0.5) for word in draw.sample("abcde", draw.choice((1, 2, 2, 3)))]
    return Statement(draw.choice(("", "", "Max", "Rex")), frozenset(literals))


def test_z3_agrees_with_an_independent_prover_whatever_was_asked_before() -> None:
    draw, follow = random.Random(3), 0
    for _ in range(25):
        theory = [_statement(draw) for _ in range(7)]
        prover = Prover(2000)
        for _ in range(8):
            claim = _statement(draw)
            premises = [_clause(one) for one in theory]
            if prover.holds(*premises) == "unsat":
                break
            expected = entails(theory, claim) if claim.who else entails([one for one in theory if not one.who], claim)
            found = prover.entails(premises, _clause(claim))
            assert (found == "unsat") == expected, (theory, claim)
            assert found == Prover(2000).entails(premises, _clause(claim))
            if found == "unsat":
                follow += 1
                core = prover.core(premises, _clause(claim))
                assert core == Prover(2000).core(premises, _clause(claim)), "the same core on a fresh solver"
                for left_out in core:
                    assert prover.entails([premises[place] for place in core if place != left_out], _clause(claim)) == "sat"
    assert follow > 20


@pytest.mark.parametrize("configuration", [Deduction.easy(), Deduction.medium(), Deduction.hard()])
def test_gold_solutions_of_the_deduction_environment_are_supported_step_by_step(logic: Logic, configuration: Deduction) -> None:
    for problem in configuration.problems(11, 4):
        told = states(logic, problem.prompt, *problem.reference_steps)
        assert set(told) == {"supported"}, problem.prompt


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("∀x (A(x) → ¬B(x) ∧ C(x, k))", "∀x (A(x) → (¬B(x) ∧ C(x, k)))"),
        ("forall x. A(x) -> B(x)", "∀x (A(x) → B(x))"),
        ("¬ Fly (rock) ∧ ¬ Bird (rock)", "¬Fly(rock) ∧ ¬Bird(rock)"),
        ("A(k) ⊕ B(k) → C(k)", "(A(k) ⊕ B(k)) → C(k)"),
        ("p -> q -> r", "p → (q → r)"),
        ("p or q and not r", "p ∨ (q ∧ ¬r)"),
        ("\\neg p \\lor q", "¬p ∨ q"),
        ("A(k) ⊕ B(k) ⊕ C(k)", None),  # exactly one, or an odd number?
        ("A(k) ∨ B(k) ⊕ C(k)", None),
        ("A(k))", None),
        ("A(x) → B(x)", None),  # free variables
        ("__import__('os').system('true')", None),
        ("(" * 500 + "p" + ")" * 500, None),
        ("¬" * 5000 + "p", None),
    ],
)
def test_formulas_are_read_or_refused(text: str, shown: str | None) -> None:
    formula = read_formula(text)
    assert (None if formula is None else show(formula)) == shown
    if formula is not None:
        assert from_json(to_json(formula)) == formula


def test_outside_the_decidable_fragment_nothing_is_claimed(logic: Logic) -> None:
    formula = read_formula("∀x ∃y (R(x, y))")
    assert formula is not None
    with pytest.raises(NotGround):
        normal(formula, "n")
    assert list(constants(normal(Not(formula), "n"))) == ["n1"]
    assert states(logic, "∀x ∃y R(x, y)\nA(k)\nTrue or false: A(k)", "A(k)") == ["abstain"]
    assert show(reading(Join("either", (Atom("p"), Atom("q"))), weak=False)) == "(p ∨ q) ∧ ¬(q ∧ p)"


def test_what_is_too_much_for_the_worker_is_abstained_from_and_the_next_call_is_answered() -> None:
    wide = "∀u ∀v ∀w ∀x ∀y ∀z (R(u, v) ∧ R(v, w) ∧ R(w, x) ∧ R(x, y) → R(u, z))"
    facts = "\n".join(f"R(a{index}, b{index})" for index in range(12))
    assert states(Logic(), f"{facts}\n{wide}\nTrue or false: R(a1, b2)", "R(a1, b2)") == ["abstain"]
    quick = Logic(limits=Limits(time_limit_s=0.02, memory_limit_mb=2048))
    many = "\n".join(f"R(a{index}, a{index + 1})" for index in range(24)) + "\n∀x ∀y ∀z (R(x, y) ∧ R(y, z) → R(x, z))"
    (verdict,) = judged(quick, f"{many}\nTrue or false: R(a0, a24)", "R(a0, a24)")
    assert verdict.state is State.ABSTAIN
    assert any(why in verdict.reason for why in ("time limit", "unknown", "instances")), verdict.reason  # a fast machine counts the instances in time
    quick._pool.close()


@pytest.mark.parametrize(
    "hostile", ["", "�" * 50, "so " * 4000, "Since " * 500 + "Max is big.", "\x00 is \x00.", "Max is " + "a " * 3000, "(" * 4000, "| p |\n" * 900]
)
def test_no_text_raises(logic: Logic, hostile: str) -> None:
    assert states(logic, ASKED, hostile)[0] in ("abstain", "supported")
    assert states(logic, hostile, "Max is big.") == ["abstain"]


def test_the_worker_answers_the_same_with_and_without_its_memory() -> None:
    def request(n: int) -> dict[str, Any]:
        said = ["Max", "Rex", "Max"][:n]
        steps = [[{"kind": "statement", "formula": ["atom", "big", who], "text": who, "cited": []}] for who in said]
        premises = [["Max is big", ["atom", "big", "Max"]], ["Rex is red", ["atom", "red", "Rex"]]]
        return {"premises": premises, "symbols": ["Max", "Rex", "big", "red"], "closed": True, "steps": steps, "timeout_ms": 2000}

    once = check(request(3))
    assert [check(request(n))["results"][0]["state"] for n in (1, 2, 3)] == ["supported", "refuted", "supported"]
    assert check(request(3)) == once


def test_labels_are_local_and_carry_the_evidence(logic: Logic) -> None:
    assert isinstance(logic, Verifier)
    trajectory = Trajectory.from_texts(Problem(ASKED), ["Max is a tumpus.", "Max is sour.", "Hm."], finished=True)
    labels = run_sync(ToolLabels(verifiers=[logic]).label(trajectory))
    assert (labels.semantics, labels.hard, labels.first_error) == ("local", (True, False, None), 1)
    assert labels.evidence is not None
    assert labels.evidence[1][0]["evidence"]["premises"] == ("Wumpuses are not sour", "Max is a wumpus")


def test_perturbations_change_one_thing_and_say_which() -> None:
    kinds = {one.kind: one.text for one in corruptions("Each wumpus is a tumpus.", ASKED)}
    assert kinds["negation"] == "Each wumpus is not a tumpus."
    assert kinds["swap"] == "Each tumpus is a wumpus."
    assert [one.text for one in corruptions("So Max is not sour.", ASKED) if one.kind == "dropped_not"] == ["So Max is sour."]
    assert {one.text for one in corruptions("Since A is b and c is d, A is d.", "") if one.kind == "premise"} <= {
        "Since A is b, A is d.",
        "Since c is d, A is d.",
    }
    assert "Max is not a tumpus." not in {one.text for one in corruptions("Max is a wumpus.", ASKED) if one.kind == "predicate"}
    assert corrupt_logic("Max is a wumpus.", ASKED, seed=4) == corrupt_logic("Max is a wumpus.", ASKED, seed=4)
    assert corrupt_logic("Hm!", ASKED) is None


def test_without_z3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="timeout_ms"):
        Logic(timeout_ms=0)
    assert load_verifier("logic").fingerprint == Logic().fingerprint
    monkeypatch.setitem(sys.modules, "z3", None)
    monkeypatch.setattr("stepward.rewards.logic.verifier.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"stepward\[tools\]"):
        Logic()
