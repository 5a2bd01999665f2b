"""Random solutions that are unkind to readers: unicode, LaTeX, empty lines, markers and control tokens spelled in the text, one step, no text."""

from __future__ import annotations

import random
from collections.abc import Sequence

MARKERS = (
    *("<extra_0>", "ки", " ки", " ки\n", "[PRM]", "<extra>", "<+>", "<->", "+", "-", " +", " -"),
    *("\n\n\n\n\n", " \n\n\n\n", "\n\n", "\n", "correct", "incorrect"),
)
CONTROL = ("<|im_end|>", "<|im_start|>assistant\n", "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<s>", "</s>", "<unk>", "<|endoftext|>")
SENTENCES = (
    "Tom has 3 + 4 = 7 fruits.",
    "Each box holds 12 pencils, so 5 boxes hold 5 * 12 = 60 pencils.",
    "Half of 60 is 60 / 2 = 30",
    "The answer is: 30",
    "x^2 - 2x + 1 = (x - 1)^2, so x = 1.",
    r"We get $\frac{1}{2}\left(a+b\right) \ge \sqrt{ab}$ and $\boxed{3}$.",
    r"\[ \begin{pmatrix} 1 & 0 \\ 0 & -1 \end{pmatrix} \]",
    "Step 3: as before.",
    "Así que él tiene siete piñas — «7».",
    "所以答案是 42。",
    "Кит и китёнок: 2 кита.",
    "مجموع ٣ و ٤ هو ٧",
    "👩‍🚀 has 7 🍐 (e\u0301)",
    "f = lambda x: {x: 1}[x]  # {problem} {step} %s",
)


def solutions(n: int, seed: int, *, spelled: Sequence[str] = ()) -> list[tuple[str, list[str]]]:
    """n problems with the texts of their steps; `spelled`: further strings to write into them, such as a tokenizer's control tokens."""
    draw = random.Random(seed)
    hostile = [*MARKERS, *CONTROL, *spelled]
    return [(_text(draw, hostile, 2), [_step(draw, hostile) for _ in range(draw.choice([1, 1, 2, 2, 3, 4, 6]))]) for _ in range(n)]


def _step(draw: random.Random, hostile: Sequence[str]) -> str:
    kind = draw.random()
    if kind < 0.06:
        return ""
    if kind < 0.1:
        return draw.choice([" ", "\n", "\n\n", "7", ".", "\t"])
    if kind < 0.2:
        return draw.choice(hostile)
    return _text(draw, hostile, 3)


def _text(draw: random.Random, hostile: Sequence[str], most: int) -> str:
    parts = []
    for _ in range(draw.randint(1, most)):
        parts.append(draw.choice(SENTENCES))
        if draw.random() < 0.25:
            parts.append(draw.choice(hostile))
        parts.append(draw.choice([" ", " ", "\n", "\n\n", "", "\n\n\n"]))
    return "".join(parts if draw.random() < 0.3 else parts[:-1])
