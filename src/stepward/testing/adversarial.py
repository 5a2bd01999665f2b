r"""Adversarial answers: what a policy under training might write to hang, crash or fool an answer grader.

Each names what may come of it: "right" and "wrong" answers may also stay unscored, but never get the other grade; "any" must only come back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Expected = Literal["right", "wrong", "any"]


@dataclass(frozen=True, kw_only=True)
class AdversarialAnswer:
    """`answer` is to be graded against `gold`."""

    gold: str
    answer: str
    expected: Expected
    family: str

    def allows(self, value: float | None) -> bool:
        """Is this grade acceptable? None is unscored."""
        return value is None or self.expected == "any" or value == (1.0 if self.expected == "right" else 0.0)


def adversarial_answers(seed: int, n: int) -> list[AdversarialAnswer]:
    """n answers, the same for the same seed; the families take turns, so any n mixes them."""
    rng = random.Random(seed)
    families = list(_FAMILIES.items())
    answers = []
    for index in range(n):
        family, make = families[index % len(families)]
        gold, answer, expected = make(rng)
        answers.append(AdversarialAnswer(gold=gold, answer=answer, expected=expected, family=family))
    rng.shuffle(answers)
    return answers


Made = tuple[str, str, Expected]


def _disguised_right(rng: random.Random) -> Made:
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    choices: list[Made] = [
        (str(a), rf"\boxed{{{a}.000}}", "right"),
        (str(a), rf"\left(\frac{{{a * b}}}{{{b}}}\right)", "right"),
        (str(a + b), rf"{a}+{b}", "right"),
        (str(a * b), rf"{a} \times {b} = {a * b}", "right"),
        (rf"{a}\sqrt{{2}}", rf"\sqrt{{{2 * a * a}}}", "right"),
        (rf"\frac{{{a}}}{{{a + 1}}}", rf"1-\frac{{1}}{{{a + 1}}}", "right"),
        (str(a), rf"\frac{{\pi}}{{\pi}} \cdot {a}", "right"),
        (str(a * a), f"{a}^2", "right"),
        (rf"x^2+{2 * a}x+{a * a}", rf"(x+{a})^2", "right"),
        (f"{a}, {b}", f"{b}, {a}", "right"),
    ]
    return rng.choice(choices)


def _disguised_wrong(rng: random.Random) -> Made:
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    choices: list[Made] = [
        (str(a), f"{a}{rng.randint(0, 9)}", "wrong"),
        (str(a), rf"{a} + 10^{{-3}}", "wrong"),
        (str(a), rf"\frac{{{a * b + 1}}}{{{b}}}", "wrong"),
        ("1/3", "0.333", "wrong"),
        (rf"{a}\sqrt{{2}}", rf"\sqrt{{{2 * a * a + 1}}}", "wrong"),
        (rf"x^2+{a}", rf"x^2-{a}", "wrong"),
        (f"({a},{b})", f"({b + 1},{a})", "wrong"),
        (str(a), f"{a} or {a + 1}", "wrong"),
        (str(a), r"\text{the answer is whatever the grader wants}", "wrong"),
        (str(a), "", "wrong"),
    ]
    return rng.choice(choices)


def _power_tower(rng: random.Random) -> Made:
    base, height = rng.choice("3579"), rng.randint(3, 30)
    tower = f"{base}^{{" * height + base + "}" * height
    return "7", rng.choice([tower, tower.replace("^", "**"), rf"\left({tower}\right) \bmod 10", f"-{tower}", rf"\frac{{1}}{{{tower}}}"]), "any"


def _deep_nesting(rng: random.Random) -> Made:
    depth = rng.choice([20, 60, 150, 300, 10_000])
    opening, closing = rng.choice(
        [(r"\frac{1}{1+", "}"), (r"\sqrt{", "}"), (r"\left(", r"\right)"), ("(", ")"), ("{", "}"), ("|", "|"), ("[", "]"), (r"\sin(", ")")]
    )
    return "1", opening * depth + "1" + closing * depth, "any"


def _one_sided_nesting(rng: random.Random) -> Made:
    return "1", rng.choice([r"\frac{", r"\sqrt{", r"\left(", "{", "(", "\\", "^", "_", "$", "}", r"\boxed{"]) * rng.choice([1, 7, 200, 900]), "any"


def _factorial(rng: random.Random) -> Made:
    n = rng.choice([50, 3_000, 100_000, 10_000_000, 10**12])
    return (
        "24",
        rng.choice([f"{n}!", f"({n}!)!", "!" * 40, f"5{'!' * rng.randint(3, 60)}", rf"\binom{{{n}}}{{{n // 2}}}", rf"\frac{{{n}!}}{{{n - 1}!}}"]),
        "any",
    )


def _giant_integer(rng: random.Random) -> Made:
    digits = rng.choice([100, 1_500, 1_990, 5_000, 100_000])
    return "3", "".join(rng.choice("123456789") for _ in range(digits)) + rng.choice(["", ".5", "/7", "%", "^2", "!"]), "any"


def _endless_calculus(rng: random.Random) -> Made:
    k = rng.randint(2, 9)
    return rng.choice("0123"), rng.choice(
        [
            rf"\sum_{{n=1}}^{{\infty}} \frac{{\sin(n^{k})}}{{n^{k}+\sqrt{{n}}}}",
            rf"\int_0^\infty \frac{{e^{{-x^{k}}}\sin(x^{k})}}{{\sqrt{{1+x^{{{k + 1}}}}}}} dx",
            rf"\prod_{{n=1}}^{{10^{{{k}}}}} (1+\frac{{1}}{{n^2}})",
            rf"\lim_{{x \to \infty}} \frac{{x^x}}{{\Gamma(x)^{k}}}",
            rf"\int \int \int \sqrt{{\sin(x^{k} y z)}} dx dy dz",
            rf"\sum_{{n=1}}^{{10^{{{10 * k}}}}} n^{{n}}",
        ]
    ), "any"  # fmt: skip


def _huge_matrix(rng: random.Random) -> Made:
    size = rng.choice([3, 8, 12, 20])
    body = r"\\".join("&".join(str(rng.randint(-9, 9)) for _ in range(size)) for _ in range(size))
    matrix = rf"\begin{{pmatrix}}{body}\end{{pmatrix}}"
    return r"\begin{pmatrix}1\\2\end{pmatrix}", rng.choice([matrix, matrix + "^{-1}", matrix + "^{99}", rf"\det {matrix}"]), "any"


def _huge_set(rng: random.Random) -> Made:
    numbers = ",".join(str(rng.randint(0, 99)) for _ in range(rng.choice([50, 300, 600, 4_000])))
    return r"\{1,2\}", rng.choice([rf"\{{{numbers}\}}", f"({numbers})", numbers, r" \cup ".join(f"[{k},{k + 1})" for k in range(0, 120, 2))]), "any"


def _sympy_bomb(rng: random.Random) -> Made:
    n = rng.choice([8, 30, 60])
    return "x+1", rng.choice(
        [
            "+".join(rf"\sqrt{{x+{k}}}" for k in range(n)),
            f"(x+y+z+w)^{{{n}}}",
            "".join(f"(x^{k}-{k})" for k in range(2, n)),
            "+".join(rf"\sin({k}x)^{k}" for k in range(2, n)),
            r"\sqrt{" * 12 + "x" + "}" * 12 + rf"^{{{n}}}",
            "=".join(["x^5-x-1"] * n),
            rf"x^{{{n}}}+x+1 < \sin(x)^{{{n}}}",
            "".join(rf"\frac{{x^{{{k}}}+1}}{{x^{{{k}}}-1}}" for k in range(2, n)),
        ]
    ), "any"  # fmt: skip


def _code(rng: random.Random) -> Made:
    return "4", rng.choice(
        [
            "__import__('os').system('sleep 100')",
            "__import__('os').kill(__import__('os').getppid(), 9)",
            "exec('while True: pass')",
            "open('/etc/passwd').read()",
            "lambda: (yield)",
            "(lambda f: f(f))(lambda f: f(f))",
            "[x for x in ().__class__.__base__.__subclasses__()]",
            r"\input{/etc/passwd}",
            r"\def\a{\a\a}\a",
            "'; DROP TABLE answers; --",
        ]
    ), "wrong"  # fmt: skip


def _junk(rng: random.Random) -> Made:
    length = rng.choice([1, 30, 300, 1_900, 50_000])
    alphabet = rng.choice(
        [
            [chr(c) for c in range(32)],
            list("\\{}$^_&%#~"),
            list("٣५৭๙²½Ⅷ🤖\u202e\u0301\ufeff\ud800"),
            [chr(c) for c in range(33, 127)],
            ["\x00", "7"],
            list("aeiou "),
        ]
    )
    return "77", "".join(rng.choice(alphabet) for _ in range(length)), "any"


def _very_long(rng: random.Random) -> Made:
    return "1", rng.choice(["1+" * 100_000 + "1", "9" * 1_000_000, " " * 500_000 + "1", "x" * 30_000, "1 " * 50_000]), "any"


_FAMILIES: dict[str, Callable[[random.Random], Made]] = {
    "right, disguised": _disguised_right,
    "wrong, disguised": _disguised_wrong,
    "power tower": _power_tower,
    "right, disguised again": _disguised_right,
    "deep nesting": _deep_nesting,
    "one-sided nesting": _one_sided_nesting,
    "factorial": _factorial,
    "wrong, disguised again": _disguised_wrong,
    "giant integer": _giant_integer,
    "endless sum or integral": _endless_calculus,
    "huge matrix": _huge_matrix,
    "huge set": _huge_set,
    "symbolic bomb": _sympy_bomb,
    "code": _code,
    "junk": _junk,
    "very long": _very_long,
}
