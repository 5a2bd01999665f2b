"""Query and Reading: token ids and the positions where a head is read, and what it said there. How they are computed lives elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Query:
    """A sequence of L tokens that is read at T positions."""

    ids: NDArray[np.int64]  # [L]
    at: NDArray[np.int64]  # [T] positions in 0..L-1, increasing


@dataclass(frozen=True, eq=False)
class Reading:
    """What the head gave at every position of a query, and what that cost.

    `n_computed` tokens went through the model because of this query; `n_cached` of its tokens were spared, because a cache or another query of the
    batch had them. Both together are the tokens up to the last position that is read, or all of them where what follows counts too.
    """

    values: NDArray[np.float64]  # [T, K]
    n_computed: int
    n_cached: int
