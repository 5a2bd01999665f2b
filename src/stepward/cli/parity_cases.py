"""The solutions that `stepward parity` compares when it is given none: every text that has ever been read differently by two programs."""

from __future__ import annotations

import random

from stepward.core import Problem, Step, Trajectory

_PIECES = (
    "48 / 2 + 3 = 27.", "x^2 + y^2 \\leq \\frac{1}{2}", "\\boxed{42}", "So the answer is $\\pi r^2$", "Tom has 3 apples.", "Therefore", "+", "-", "- 7", "=",
    "Ünïcödé", "數學是美", "Ответ", "مرحبا", "🧮🎲", "e\u0301", "\u200b", "\u00a0", "\ufeff", "\u202eabc\u202c", "\ud800", "\x07",
    "\t", " ", "  ", "\n", "\n\n", "\r\n", "<extra_0>", "<extra_1>", "ки", " ки\n", "[PRM]", "[INST]", "<|im_end|>", "<|im_start|>assistant",
    "</s>", "<s>", "<|endoftext|>", "<|eot_id|>", "Step 2:", "Step 10: ", "1.", "###", "```python\nprint(1)\n```", '{"a": [1, 2]}', "<b>&amp;</b>", "\\",
    "%s {0} {step} {problem}", "0" * 40, "a" * 80, "e" + "'" * 9,
)  # fmt: skip
_WORDS = ("first", "we", "add", "the", "7", "pears", "and", "get", "12", "which", "is", "wrong", "because", "half", "of", "it", ",", ".", "=", "3")


def awkward_solutions(n: int = 64, *, seed: int = 0) -> list[Trajectory]:
    """n solutions, the same for the same seed: no, one and many steps, empty ones, spelled markers, odd characters; every 32nd is longer than most contexts."""
    draw = random.Random(seed)
    fixed = [
        Trajectory(Problem("What is 1 + 1?")),
        Trajectory.from_texts("What is 1 + 1?", ["2"]),
        Trajectory.from_texts("", ["The answer is 2."]),
        Trajectory.from_texts("What is 1 + 1?", ["", " ", "\n", "2"]),
        Trajectory.from_texts("What is 1 + 1?", ["Step 1: 1 + 1 = 2.\n\nStep 2: done.", "Step 3: The answer is 2."]),
        Trajectory(Problem("Look it up."), (Step("search('2 + 2')", "\n", observation="4"), Step("It is 4."))),
        Trajectory.from_texts("Count.", [f"{index} comes after {index - 1}." for index in range(1, 31)], finished=False),
    ]
    drawn = [_long(draw) if index % 32 == 31 else _solution(draw) for index in range(len(fixed), n)]
    return [*fixed, *drawn][:n]


def _solution(draw: random.Random) -> Trajectory:
    problem = " ".join(draw.choices(_WORDS + _PIECES[:20], k=draw.randint(0, 25)))
    steps = [_text(draw) for _ in range(draw.choice((1, 2, 3, 4, 6, 9)))]
    return Trajectory.from_texts(problem, steps, separator=draw.choice(("\n\n", "\n", " ", "")), finished=draw.random() < 0.8)


def _text(draw: random.Random) -> str:
    parts = [draw.choice(_PIECES) if draw.random() < 0.4 else " ".join(draw.choices(_WORDS, k=draw.randint(1, 12))) for _ in range(draw.randint(0, 5))]
    return draw.choice(("", " ")).join(parts)


def _long(draw: random.Random) -> Trajectory:
    return Trajectory.from_texts("A long one.", [" ".join(draw.choices(_WORDS, k=400)) for _ in range(14)])
