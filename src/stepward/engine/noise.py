"""Noise: uniform numbers that are pure functions of (seed, key, draw, position), so that results do not depend on what was batched together.

Not a general random generator: no state, no other distributions.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: positions
_SILVER = 0xD1342543DE82EF95  # another odd constant: lanes
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def row_key(seed: int, key: str, draw: int) -> tuple[int, int]:
    """Two 64-bit words that name one stream of noise: the 128-bit BLAKE2b hash of seed, draw and key."""
    digest = blake2b(f"{seed}:{draw}:{key}".encode("utf-8", "surrogatepass"), digest_size=16, person=b"stepward-noise").digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def row_keys(seed: int, rows: Iterable[tuple[str, int]]) -> Keys:
    """`row_key` of every (key, draw): uint64, shape [B, 2]. Made once a row, then used at every position."""
    words = [row_key(seed, key, draw) for key, draw in rows]
    return np.array(words, dtype=np.uint64).reshape(len(words), 2)


def uniforms(seed: int, key: str, draw: int, position: int, n: int = 1) -> Floats:
    """n independent uniform numbers in the open interval (0, 1), shape [n]: a pure function of the arguments.

    Number j is `uniform_at(row_keys(seed, [(key, draw)]), position, lane=j)`; `position` counts tokens, steps or whatever the caller draws at.
    """
    first, second = row_key(seed, key, draw)
    base = _mix((first + position * _GOLDEN) & _MASK) + second
    return np.array([((_mix((base + lane * _SILVER) & _MASK) >> 12) + 0.5) * 2.0**-52 for lane in range(n)])


def uniform_at(keys: Keys, positions: NDArray[np.int64] | int, *, lane: int = 0) -> Floats:
    """One uniform number in (0, 1) for every row, shape [B]: row b of `keys` (uint64, [B, 2]) at `positions[b]`.

    u = (h >> 12 + 1/2) / 2^52 with h = mix(mix(k_0 + position * golden) + k_1 + lane * silver), mix the finaliser of SplitMix64 and k the hashed row key.
    Reference: Fast splittable pseudorandom number generators (2014), for the mixing function.
    """
    at = np.asarray(positions, dtype=np.int64).astype(np.uint64)  # negative positions wrap, as in the scalar form
    base = _mix_rows(keys[:, 0] + at * np.uint64(_GOLDEN)) + keys[:, 1]
    hashed = _mix_rows(base + np.uint64(lane * _SILVER & _MASK))
    return ((hashed >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _mix(word: int) -> int:
    word = (word ^ (word >> 30)) * _MIX_1 & _MASK
    word = (word ^ (word >> 27)) * _MIX_2 & _MASK
    return word ^ (word >> 31)


def _mix_rows(words: Keys) -> Keys:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(_MIX_1)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(_MIX_2)
    return words ^ (words >> np.uint64(31))
