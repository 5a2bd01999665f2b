"""tools:algebra decides formulas exactly, refutes only what no reading saves, and runs nothing that a text says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core import Problem, Trajectory
from stepward.engine.workers import Limits, WorkerPool
from stepward.rewards.algebra import Algebra, extract
from stepward.rewards.algebra.integers import check_integers, is_prime
from stepward.rewards.algebra.worker import decide
from stepward.rewards.verifiers import State, StepContext, Verdict

S, R, A = State.SUPPORTED, State.REFUTED, State.ABSTAIN
ALGEBRA = Algebra()


def verdicts(text: str, problem: str = "Compute.", before: Sequence[str] = ()) -> list[Verdict]:
    trajectory = Trajectory.from_texts(Problem(problem), [*before, text])
    return asyncio.run(ALGEBRA.verify(StepContext(trajectory, len(before))))


def states(text: str, problem: str = "Compute.", before: Sequence[str] = ()) -> list[State]:
    return [verdict.state for verdict in verdicts(text, problem, before)]


TRUE = [
    r"\( \sqrt{8} = 2\sqrt{2} \)",
    r"\( \pi \cdot 6^2 \cdot 12 = 432\pi \)",
    r"\( \binom{5}{2} = 10 \)",
    r"$5! = 120$",
    r"$\log_2 8 = 3$",
    r"$\sin 30^\circ = \frac{1}{2}$",
    r"$\cos\left(\frac{\pi}{3}\right) = \frac12$",
    r"\[ (x+1)^2 = x^2 + 2x + 1 = x(x+2) + 1 \]",
    r"Expanding, \( (a-b)(a+b) = a^2 - b^2 \).",
    r"\begin{align*} x(x+2) &= x^2 + 2x \\ &= (x+1)^2 - 1 \end{align*}",
    r"$\frac{d}{dx}(x^3 + x) = 3x^2 + 1$",
    r"$\sqrt{2} < 1.5$",
    r"$2^{10} \geq 1000$",
    r"$|{-3}| = 3$",
    r"$\gcd(12, 18) = 6$",
    "We simplify: x(x + 2) = x^2 + 2x",
]


@pytest.mark.parametrize("text", TRUE)
def test_what_holds_is_supported(text: str) -> None:
    found = states(text)
    assert S in found, verdicts(text)
    assert R not in found


FALSE = [
    (r"\( \sqrt{8} = 3\sqrt{2} \)", "equality"),
    (r"\( \pi(6)^2(12) = 216\pi \)", "equality"),
    (r"\( \binom{5}{2} = 12 \)", "equality"),
    (r"$\log_8 256 = \log_8 (8^2)$", "equality"),
    (r"$\sin 30^\circ = \frac{\sqrt{3}}{2}$", "equality"),
    (r"$\sqrt{2} > 1.5$", "inequality"),
    (r"Expanding, \( (x+1)^2 = x^2 + 2x + 2 \).", "identity"),
    (r"\[ (x+1)(x-2) = x^2 - x - 2 = x^2 + x - 2 \]", "identity"),
    (r"\begin{align*} x(x+2) &= x^2 + 2x \\ &= x^2 + 3x \end{align*}", "identity"),
    (r"$\frac{d}{dx}(x^3) = 2x^2$", "identity"),
    ("24 and 1199 are divisible by 3.", "divisibility"),
    ("1529 ÷ 6 = 255 with a remainder of 4", "division with remainder"),
    (r"Here \(100 \equiv 3 \pmod{7}\).", "remainder"),
    ("The GCD of 116 and 174 is 2.", "greatest common divisor"),
    ("Note that 91 is prime.", "prime"),
    ("So 48 is a perfect square.", "square"),
]


@pytest.mark.parametrize(
    "text",
    [
        r"$(-8)^{1/3} = -2$",
        r"$3!! = 3$",
        "It is false that 10 is divisible by 4.",
        "Hence neither 9 nor 10 is divisible by 4.",
        "No number ending in 10 is divisible by 4.",
    ],
)
def test_nothing_true_is_refuted(text: str) -> None:
    assert R not in states(text)


@pytest.mark.parametrize(("text", "kind"), FALSE)
def test_what_is_false_is_refuted_with_evidence(text: str, kind: str) -> None:
    refuted = [verdict for verdict in verdicts(text) if verdict.state is R]
    assert [verdict.kind for verdict in refuted] == [kind], verdicts(text)
    assert refuted[0].evidence
    start, end = refuted[0].span
    assert text[start:end] == refuted[0].text


def test_identities_are_refuted_with_a_point_where_the_sides_differ() -> None:
    (refuted,) = [verdict for verdict in verdicts(r"\[ (x+y)^2 = x^2 + 2xy + y^2 = x^2 + xy + y^2 \]") if verdict.state is R]
    point = dict(refuted.evidence["counterexample"])
    x, y = sympy.Rational(point["x"]), sympy.Rational(point["y"])
    assert abs(float(2 * x * y - x * y) - float(point["difference"])) < 1e-5


ABSTAINED = {
    "an equation, not an identity": (r"\( x^2 + 2x = 3 \)", "Compute."),
    "bound by the problem": (r"Simplifying, \( x^2 + 2x = x^2 + 6 \).", "Solve $2x = 6$ for a positive x."),
    "bound by the step": (r"Since \(a = 2b\), we simplify \(a^2 + b = 4b^2 + b\).", "Compute."),
    "a case": (r"If \(x = 5\), then we are done.", "If $2x = 6$, find $x$."),
    "a trial": (r"Let us test \(x = 5\).", "If $2x = 6$, find $x$."),
    "rejected": (r"\(x = 5\) is not a solution, a contradiction.", "If $2x = 6$, find $x$."),
    "near enough": (r"\(\sqrt{2} = 1.41\) and \(\pi \approx 3\)", "Compute."),
    "a quotient cut off": (r"\(2250 \div 360 = 6\)", "Compute."),
    "degrees or radians": (r"\(\sin 30 = \frac{1}{2}\) and \(\sin 60 = \frac{1}{2}\)", "Compute."),
    "bases of logarithms": (r"\(\log 100 = 4\) and \(\log 100 = 2\)", "Compute."),
    "units": (r"\(3 \text{ feet} = 36 \text{ inches}\)", "Compute."),
    "another curve": (r"The line is \(y = 2x + 5\).", "Find the line parallel to $y = 2x + 3$ through the point $(0, 5)$."),
    "a branch of a root": (r"We simplify \(\sqrt{(x-2)^2} = 2 - x\).", "Compute."),
    "remainders": (r"\(3 + 4 = 2\) and \(12 = 5\)", "Compute $3+4$ modulo 5."),
    "matrices": (r"We simplify \(AB - BA = 2AB\).", "Let A and B be matrices."),
    "complex numbers": (r"We simplify \(i^2 + i = i - 1\).", "Compute."),
    "another meaning of f": (r"\(f(2) = 5\)", "Let $f(x) = x + 1$ if $x < 2$ and $f(x) = 2x + 1$ if $x > 1$."),
    "a range": ("How many numbers from 1 to 100 is a multiple of 3?", "Compute."),
    "the end of a longer number": (r"\(3x - 1\) is divisible by \(19\)", "Compute."),
    "two formulas in a row": ("-14 = x + 2 -16 = x", "Compute."),
    "alternatives": (r"\(5-a=3 \text{ or } 5-a=-3\)", "Solve $|5-a| = 3$."),
}


@pytest.mark.parametrize(("text", "problem"), ABSTAINED.values(), ids=ABSTAINED.keys())
def test_what_may_be_meant_otherwise_is_not_refuted(text: str, problem: str) -> None:
    assert R not in states(text, problem), verdicts(text, problem)


def test_equations_must_share_a_solution_with_those_of_the_problem() -> None:
    problem = r"Let $x$ be a positive real number such that $x - \frac{1}{x} = 3.$ Find $x + \frac{1}{x}.$"
    assert states(r"So \( x^2 - 3x - 1 = 0 \).", problem) == [S]
    refuted = verdicts(r"Factoring, we have \( (x - 1)(x - 3) = 0 \).", problem)
    assert [(verdict.state, verdict.kind) for verdict in refuted] == [(R, "contradicts the problem")]
    assert states(r"Hence \(x = 3\).", "If $2x = 6$, find $x$.") == [S]
    assert states(r"Hence \(x = 4\).", "If $2x = 6$, find $x$.") == [R]
    assert states(r"Hence \(x + y = 4\).", "If $x - y = 6$ and $x = 2y$, find $x + y$.") == [R]


def test_values_and_derivatives_follow_from_the_one_definition() -> None:
    problem = "Let $f(x) = x^2 + 1$. Find $f(3)$."
    assert states(r"We have $f(3) = 10$ and $f'(x) = 2x$.", problem) == [S, S]
    assert states(r"We have $f(3) = 11$ and $f'(x) = 2x + 1$.", problem) == [R, R]
    assert states(r"We have $g(2) = 7$.", "Compute.", [r"Define $g(t) = 3t + 1$."]) == [S]
    assert R not in states(r"We have $g(2) = 8$.", "Compute.", [r"Define $g(t) = 3t + 1$.", r"Now let $g(t) = 4t$."])


@given(st.integers(1, 30), st.integers(1, 30), st.integers(-5, 5))
@settings(max_examples=15, deadline=None)
def test_writing_otherwise_never_turns_support_into_refutation(a: int, b: int, slip: int) -> None:
    expanded = f"x^2 + {a + b}x + {a * b + slip}"
    texts = [
        rf"Expanding, \( (x+{a})(x+{b}) = {expanded} \).",
        rf"Expanding gives \[ (x+{a})\cdot(x+{b}) = {expanded}. \]",
        rf"Expanding, $\left(x+{a}\right)\left(x+{b}\right) = {expanded}$.",
        f"Expanding: (x + {a})(x + {b}) = {expanded}",
    ]
    for text in texts:
        assert states(text) == [S if slip == 0 else R], text


def test_a_wrong_constant_in_an_expansion_is_noticed_almost_always() -> None:
    noticed = [
        states(rf"\[ (x+{a})(x-{b}) = x^2 + {a}x - {b}x - {a * b} = x^2 - {b - a}x - {a * b + slip} \]")[-1] is R
        for a, b, slip in ((2, 5, 1), (3, 7, -2), (4, 9, 3), (1, 8, 9), (6, 11, -7), (5, 12, 4))
    ]
    assert all(noticed)


# Safety.


def test_text_is_never_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    attacks = [
        rf"\( __import__('os').system('touch {mark}') = 1 \)",
        f"$x = open('{mark}', 'w')$",
        r"\[ \text{exec}(1) = \operatorname{__import__}(1) \]",
        "f(x).__class__ = 3",
    ]
    for attack in attacks:
        assert R not in states(attack)
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        r"\( 9^{9^{9^{9}}} = 3 \)", r"\( 300!^{300!} = \sqrt{2} \)", "(" * 5000 + "x = 1", r"\(" + "x+" * 5000 + r"1 = 2\)", r"\(" + r"\frac{" * 500 + "1 = 2",
        "$" * 3000, "=" * 5000, "x = " + "1" * 5000 + "a", r"\[" * 9000 + "=", "x = " + "1 " * 5000 + "a", r"\text{" * 3000 + "=", "2x" * 3000 + "= 1",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hostile_formulas_end_in_abstention(text: str) -> None:
    assert R not in states(text)


@given(
    st.lists(
        st.sampled_from([*"0123456789+-*/^()=xyzf{}[]|!_,.$&'\\ ", r"\frac", r"\sqrt", r"\sin", r"\(", r"\)", r"\\", r"\text{", "mod", " or "]), max_size=40
    )
)
@settings(max_examples=150, deadline=None)
def test_reading_never_raises_and_quotes_what_stands_there(pieces: list[str]) -> None:
    text = "".join(pieces)
    for claim in extract(text):
        assert text[slice(*claim.span)] == claim.text
    for verdict in check_integers(text):
        assert text[slice(*verdict.span)] == verdict.text


def test_a_computation_over_its_limit_is_abstained_from_and_the_next_is_answered() -> None:
    hard = r"Expanding, \( (a+b+c+m+n+p)^{30} = (a+b+c+m+n-p)^{29} (p+n+m+c+b+a) \)."
    short = Algebra()
    object.__setattr__(
        short, "pool", WorkerPool("stepward.rewards.algebra.worker:decide", workers=1, limits=Limits(time_limit_s=0.5, memory_limit_mb=1024), work="algebra")
    )
    context = StepContext(Trajectory.from_texts("Compute.", [hard]), 0)
    found = asyncio.run(short.verify(context))
    assert found
    assert all(verdict.state is A for verdict in found), found
    easy = StepContext(Trajectory.from_texts("Compute.", [r"\(\sqrt{8} = 2\sqrt{2}\)"]), 0)
    assert [verdict.state for verdict in asyncio.run(short.verify(easy))] == [S]
    short.pool.close()


def test_trees_are_decided_without_any_text_being_parsed() -> None:
    question = {"ask": "identity", "left": ["s", "__import__('os')"], "right": ["s", "__import__('os')"]}
    assert decide({"questions": [question]})["answers"] == [{"state": "true"}]
    assert decide({"questions": [{"ask": "identity", "left": ["f", "system", ["n", "1"]], "right": ["n", "1"]}]})["answers"][0]["state"] == "unknown"


def test_primes_agree_with_sympy() -> None:
    numbers = [*range(-3, 400), 561, 3215031751, 2**31 - 1, 10**15 + 37, 999999999989]
    assert [number for number in numbers if is_prime(number)] == [number for number in numbers if sympy.isprime(number)]


def test_a_fork_has_its_own_workers() -> None:
    assert ALGEBRA.pool.pids
    assert all(pid != os.getpid() for pid in ALGEBRA.pool.pids)


def test_one_hard_claim_does_not_cost_the_others_their_verdicts() -> None:
    text = r"Expanding, \( (a+b+c+m+n+p)^{30} = (a+b+c+m+n-p)^{29} (p+n+m+c+b+a) \). Also \(\sqrt{8} = 2\sqrt{2}\) and \(\sqrt{8} = 3\sqrt{2}\)."
    short = Algebra()
    limits = Limits(time_limit_s=0.5, memory_limit_mb=1024)
    object.__setattr__(short, "pool", WorkerPool("stepward.rewards.algebra.worker:decide", workers=1, limits=limits, work="algebra"))
    found = asyncio.run(short.verify(StepContext(Trajectory.from_texts("Compute.", [text]), 0)))
    short.pool.close()
    assert [verdict.state for verdict in found] == [A, S, R]
