"""Where steps end: the pool on a decoder that writes given tokens, with tokens that hold separators in all sorts of ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from stepward.core import Sampling, Until
from stepward.policies.sampler.pool import Pool
from stepward.policies.sampler.rendering import Rendering
from stepward.policies.sampler.request import Draw, Request
from stepward.policies.sampler.steps import cut_step

PIECES = ["<eos>", "\n", "\n\n", ".\n\n", "\n\n  ", "\n\nB", "\n\nB\n\nC", "A", "B", " ", "."]


def rendering() -> Rendering:
    tokenizer = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(PIECES)}, unk_token="."))
    tokenizer.decoder = decoders.Fuse()
    return Rendering(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>"), template="raw", separator="\n\n", eos_ids=[0])


class Dictated:
    """A decoder that writes the given pieces, then end of text."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.ids = [PIECES.index(piece) for piece in pieces]

    def load(self, slots: Sequence[int], sequences: Sequence[object]) -> list[int]:
        return [0] * len(sequences)

    def step(self, tokens: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        logits = torch.full((len(tokens), len(PIECES)), -torch.inf)
        for row, position in enumerate(positions.tolist()):
            logits[row, self.ids[position] if position < len(self.ids) else 0] = 0.0
        return logits

    def move(self, source: int, target: int, length: int) -> None: ...

    def fork(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None: ...

    def keep(self, slot: int, group: object, ids: object) -> None: ...


def written(pieces: Sequence[str], *, until: Until = Until.END, n_steps: int = 0, max_length: int = 1000, **limits: int) -> Draw:
    pool = Pool(Dictated(pieces), rendering(), max_rows=1)
    request = Request(prompt=(7,), ids=(7,), key="k", n_steps=n_steps, n_tokens=0, n=1, draw=0, until=until, sampling=Sampling(**limits), max_length=max_length)
    pool.add(request)
    while not pool.idle:
        pool.advance()
    [draw] = request.future.result(timeout=0)
    return draw


def texts(draw: Draw) -> list[tuple[str, str]]:
    return [(step.text, step.separator) for step in draw.steps]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("A\n\nB", ("A", "\n\n", "B")),
        ("A\n\n \nB", ("A", "\n\n \n", "B")),
        ("\n\nA\n\n", ("\n\nA", "\n\n", "")),
        ("\n\n\n\n", None),
        ("A\n", None),
        ("", None),
    ],
)
def test_cut_step(text: str, cut: tuple[str, str, str] | None) -> None:
    assert cut_step(text, "\n\n") == cut


@pytest.mark.parametrize(
    ("pieces", "steps", "n_tokens"),
    [
        (["A", "\n\n", "B"], [("A", "\n\n"), ("B", "")], [2, 2]),
        (["A", "\n", "\n", "B"], [("A", "\n\n"), ("B", "")], [3, 2]),
        (["A", ".\n\n", "B"], [("A.", "\n\n"), ("B", "")], [2, 2]),
        (["A", "\n\n  ", "B"], [("A", "\n\n  "), ("B", "")], [2, 2]),
        (["A", "\n\nB", "."], [("A", "\n\n"), ("B.", "")], [2, 2]),
        (["A", "\n\nB\n\nC", "."], [("A", "\n\n"), ("B", "\n\n"), ("C.", "")], [2, 0, 2]),
        (["\n\n", "A", "\n\n", "\n\n", "B"], [("\n\nA", "\n\n"), ("\n\nB", "")], [3, 3]),
        (["A", "\n\n"], [("A", "\n\n")], [3]),
        (["A", "\n\n", "\n", " "], [("A", "\n\n\n ")], [5]),
        ([" "], [("", " ")], [2]),
        ([], [], []),
    ],
)
def test_whole_solutions(pieces: list[str], steps: list[tuple[str, str]], n_tokens: list[int]) -> None:
    draw = written(pieces)
    assert texts(draw) == steps
    assert [step.n_tokens for step in draw.steps] == n_tokens
    assert draw.finished
    assert "".join(step.text + step.separator for step in draw.steps) == "".join(pieces)


def test_one_step_ends_with_its_token() -> None:
    draw = written(["A", ".\n\n", "B"], until=Until.STEP)
    assert (texts(draw), draw.finished, draw.truncated, draw.n_tokens) == ([("A.", "\n\n")], False, False, 2)
    assert draw.steps[0].ids == (7, 3)


def test_one_step_drops_what_its_last_token_holds_of_the_next() -> None:
    draw = written(["A", "\n\nB", "."], until=Until.STEP)
    assert texts(draw) == [("A", "\n\n")]
    assert draw.steps[0].ids is None, "these ids would say more than the text"


def test_end_of_text_first_thing_finishes_without_a_step() -> None:
    draw = written([], until=Until.STEP)
    assert (draw.steps, draw.finished, draw.n_tokens) == ((), True, 1)


@pytest.mark.parametrize("until", list(Until))
def test_limits_truncate(until: Until) -> None:
    for limits in ({"max_step_tokens": 3}, {"max_tokens": 3}, {"max_length": 4}):
        draw = written(["A", "B", "A", "B"], until=until, **limits)
        assert (texts(draw), draw.finished, draw.truncated) == ([("ABA", "")], False, True), limits


def test_the_last_allowed_step_truncates() -> None:
    assert written(["A", "\n\n", "B", "\n\n", "A"], max_steps=2).truncated
    assert texts(written(["A", "\n\n", "B"], max_steps=1)) == [("A", "\n\n")]
    draw = written(["A", "\n\n", "B"], until=Until.STEP, n_steps=3, max_steps=4)
    assert (texts(draw), draw.truncated) == ([("A", "\n\n")], True)
    assert written(["A", "\n\n", "B"], until=Until.STEP, max_tokens=2).truncated


def test_step_limit_counts_from_the_step() -> None:
    draw = written(["A", "B", "\n\n", "A", "B", "A", "B"], max_step_tokens=3)
    assert (texts(draw), draw.truncated) == ([("AB", "\n\n"), ("ABA", "")], True)
