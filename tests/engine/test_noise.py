from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stepward.engine.noise import row_key, row_keys, uniform_at, uniforms


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(-(2**40), 2**70),
    draw=st.integers(0, 2**40),
    key=st.text(),
    position=st.integers(0, 2**62),
    lane=st.integers(0, 50),
)
def test_scalar_and_vectorised_noise_agree(seed: int, draw: int, key: str, position: int, lane: int) -> None:
    scalar = uniforms(seed, key, draw, position, n=lane + 1)[lane]
    rows = row_keys(seed, [(key, draw), ("other", 1)])
    assert uniform_at(rows, np.array([position, 3]), lane=lane)[0] == scalar
    assert 0.0 < scalar < 1.0


def test_noise_is_the_same_in_every_process_and_version() -> None:
    assert uniforms(7, "problem", 3, 11, n=2).tolist() == GOLDEN


GOLDEN = [0.6653927701126515, 0.26011027162546585]


def test_rows_do_not_depend_on_their_neighbours() -> None:
    rows = row_keys(0, [(f"p{index}", index) for index in range(50)])
    positions = np.arange(50)
    together = uniform_at(rows, positions)
    alone = [uniform_at(rows[index : index + 1], positions[index : index + 1])[0] for index in range(50)]
    assert together.tolist() == alone


def test_noise_is_uniform_along_positions_draws_keys_seeds_and_lanes() -> None:
    n = 20_000
    one = np.repeat(row_keys(1, [("k", 0)]), n, axis=0)
    samples = {
        "positions": uniform_at(one, np.arange(n)),
        "draws": uniform_at(row_keys(1, [("k", draw) for draw in range(n)]), 0),
        "keys": uniform_at(row_keys(1, [(f"k{index}", 0) for index in range(n)]), 0),
        "seeds": uniform_at(np.array([row_key(seed, "k", 0) for seed in range(n)], dtype=np.uint64), 0),
        "lanes": uniforms(1, "k", 0, 0, n=n),
    }
    for name, values in samples.items():
        assert stats.kstest(values, "uniform").pvalue > 1e-3, name
        counts = np.bincount((values * 256).astype(int), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-3, name
        pairs = np.bincount((values[:-1] * 16).astype(int) * 16 + (values[1:] * 16).astype(int), minlength=256)
        assert stats.chisquare(pairs).pvalue > 1e-3, f"{name}: neighbours depend on each other"
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(n), name


def test_two_streams_are_uncorrelated_at_equal_positions() -> None:
    n = 20_000
    keys = row_keys(5, [("k", 0), ("k", 1)])
    first, second = (uniform_at(np.repeat(keys[row : row + 1], n, axis=0), np.arange(n)) for row in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(n)
    assert len(np.unique(np.concatenate([first, second]))) == 2 * n
