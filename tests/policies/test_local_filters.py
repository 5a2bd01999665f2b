"""One token a row: the filters against distributions computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stepward.policies.sampler.filters import draw_tokens

LOGITS = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1]))
N = 1000
GRID = (np.arange(N) + 0.5) / N  # evenly spread uniform numbers give exact frequencies


def frequencies(*, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    tokens, _ = draw_tokens(LOGITS.expand(N, 4), GRID, temperature=np.full(N, temperature), top_k=np.full(N, top_k, dtype=np.int64), top_p=np.full(N, top_p))
    return np.bincount(tokens, minlength=4) / N


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 9}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.65}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.7}, [4 / 7, 3 / 7, 0, 0]),  # of the mass that top-k leaves: 0.44, 0.78
        ({"temperature": 0.0}, [1, 0, 0, 0]),
    ],
)
def test_frequencies_are_the_filtered_probabilities(settings: dict[str, float], expected: list[float]) -> None:
    assert np.abs(frequencies(**settings) - expected).max() <= 1.5 / N  # type: ignore[arg-type]


def test_rows_keep_their_own_settings_and_logprobs() -> None:
    tokens, logprobs = draw_tokens(
        LOGITS.expand(4, 4),
        np.array([0.99, 0.99, 0.99, 0.5]),
        temperature=np.array([1.0, 1.0, 1.0, 0.0]),
        top_k=np.array([0, 3, 0, 0]),
        top_p=np.array([1.0, 1.0, 0.5, 1.0]),
    )
    assert tokens.tolist() == [3, 2, 1, 0]
    assert logprobs == pytest.approx(np.log([0.1, 0.2 / 0.9, 0.3 / 0.7, 1.0]), abs=1e-6)


def test_impossible_tokens_are_never_drawn_at_the_edges() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).expand(2, 3)
    ones = np.ones(2)
    tokens, logprobs = draw_tokens(logits, np.array([2.0**-53, 1 - 2.0**-53]), temperature=ones, top_k=np.zeros(2, dtype=np.int64), top_p=ones)
    assert tokens.tolist() == [1, 1]
    assert logprobs.tolist() == [0.0, 0.0]


def test_rows_with_nan_logits_are_marked() -> None:
    ones = np.ones(2)
    logits = torch.tensor([[0.0, 1.0], [torch.nan, 1.0]])
    _, logprobs = draw_tokens(logits, np.array([0.5, 0.5]), temperature=ones, top_k=np.zeros(2, dtype=np.int64), top_p=ones)
    assert np.isnan(logprobs).tolist() == [False, True]
