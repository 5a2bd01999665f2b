"""Prior: what the change-point model believes about chains of steps before any rollout. How it is fitted is in `fit`, how it is used in `changepoint`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from stepward.core import Floats, InputError, canonical_json, content_hash

SPACING = 0.25
LEVELS: Floats = np.concatenate([[0.0], 1.0 / (1.0 + np.exp(-np.arange(-4.5, 4.51, SPACING)))])
"""The values V that a prefix can have, [G]: exactly 0, then equal steps of the logit, from 0.011 to 0.989."""
REACH = 24
SHIFTS = tuple(range(-REACH, REACH + 1))
"""By how many levels a step moves V; two more moves follow them: to exactly 0, and to any level at all."""
RATES: Floats = np.array([0.002, 0.02, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95])
"""How often a rollout may write the very same step again, [R]."""

Weights = tuple[float, ...]


def _moves() -> Floats:
    """[M, G, G]: move m takes level a to level b. V = 0 stays 0: what cannot end right cannot after one more step either."""
    n = len(LEVELS)
    table = np.zeros((len(SHIFTS) + 2, n, n))
    for m, shift in enumerate(SHIFTS):
        for a in range(1, n):
            table[m, a, min(n - 1, max(1, a + shift))] = 1.0
    table[-2, 1:, 0] = 1.0
    table[-1, 1:, 1:] = 1.0 / (n - 1)
    table[:, 0, 0] = 1.0
    return table


MOVES: Floats = _moves()


def weights(table: dict[float, float], *, zero: float = 0.0, anywhere: float = 0.01) -> Weights:
    """Weights of the moves, normalised: chances of shifts of the logit, interpolated, a fall to exactly 0, and a move to any level.

    Shifts outside the table have weight 0, and no fit gives them any: that an error lowers V and a repair raises it is what tells the phases apart.
    """
    places, shifts = sorted(table), np.array(SHIFTS) * SPACING
    inside = (shifts >= places[0]) & (shifts <= places[-1])
    raw = np.where(inside, np.interp(shifts, places, [table[place] for place in places]) + 1e-4, 0.0)
    return (*(raw / raw.sum() * (1.0 - zero - anywhere)).tolist(), zero, anywhere)


def normalised(raw: Floats) -> Weights:
    return tuple((np.asarray(raw, dtype=np.float64) / np.sum(raw)).tolist())


_INNER = LEVELS[1:] * (1.0 - LEVELS[1:])  # density in the logit of a uniform value
_START = (0.03, *(0.97 * _INNER / _INNER.sum()).tolist())


_RISE = weights({-0.75: 0.05, -0.25: 0.25, 0.0: 0.6, 0.25: 0.6, 0.5: 0.4, 1.0: 0.15, 2.0: 0.02, 6.0: 0.0})
_FALL = weights({-6.0: 0.0, -4.0: 0.15, -2.0: 0.4, -1.0: 0.5, -0.5: 0.4}, zero=0.30)
_STAY = weights({-6.0: 0.0, -2.0: 0.0, -1.0: 0.10, -0.5: 0.25, 0.0: 0.7, 0.25: 0.4}, zero=0.10)
_RECOVER = weights({0.25: 0.2, 0.5: 0.3, 1.0: 0.5, 2.0: 0.5, 3.0: 0.3, 5.0: 0.1, 6.0: 0.0})
_AGREE_RIGHT = normalised(np.array([0.35, 0.08, 0.08, 0.09, 0.09, 0.11, 0.12, 0.08]))
_AGREE_WRONG = normalised(np.array([0.50, 0.20, 0.12, 0.07, 0.05, 0.03, 0.02, 0.01]))
BANDS = (0.0, 0.15, 0.35, 0.65, 0.9, 1.0)
"""Upper ends of the bands of V in which a chain's chance of ending is told."""
BAND = np.searchsorted(np.array(BANDS), LEVELS)
_END_RIGHT = (0.002, 0.01, 0.02, 0.05, 0.15, 0.40)
_END_ERROR = (0.02, 0.015, 0.015, 0.02, 0.03, 0.03)
_ASTRAY_RIGHT = (0.002, 0.01, 0.03, 0.05, 0.05, 0.05)
_ASTRAY_WRONG = (0.25, 0.20, 0.18, 0.10, 0.05, 0.02)
_ENDS = ("end_right", "end_error", "astray_right", "astray_wrong")


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The laws of a chain, shared by all chains of a run. Phases: *clean* (no error so far), *astray* (after an error), *repaired*.

    hazard: chance that a step which does not end the solution is an error, while nothing is astray. repair: chance that it repairs what is astray.
    end_right, end_error: chance by band of V (`BANDS`) that the next step ends a clean solution, rightly or by an error; lucky: chance that such an error
    still ends right; noise: chance that a solution without an error is graded wrong. astray_right, astray_wrong: chance that the next step ends a solution
    that is astray, by what it is graded.
    start: weights of the levels of V before the first step, over `LEVELS`. rise, fall, stay, recover: weights of the moves of V (`SHIFTS`, to 0, anywhere)
    in a right step, an error, a step that goes on astray, a repair. agree_right, agree_wrong, agree_after: weights over `RATES` of how often the
    completer writes the very same step, for right steps, for errors and for steps after one.
    fitted: number of pilot trajectories behind it, 0 for the default.

    The defaults are broad; they hold worlds in which errors are never repaired and worlds in which half of them are, free text (no step is ever
    written twice) and fixed wording.
    """

    hazard: float = 0.15
    repair: float = 0.15
    lucky: float = 0.1
    noise: float = 0.002
    end_right: Weights = _END_RIGHT
    end_error: Weights = _END_ERROR
    astray_right: Weights = _ASTRAY_RIGHT
    astray_wrong: Weights = _ASTRAY_WRONG
    start: Weights = _START
    rise: Weights = _RISE
    fall: Weights = _FALL
    stay: Weights = _STAY
    recover: Weights = _RECOVER
    agree_right: Weights = _AGREE_RIGHT
    agree_wrong: Weights = _AGREE_WRONG
    agree_after: Weights = _AGREE_RIGHT
    agree_repair: Weights = _AGREE_RIGHT
    fitted: int = 0

    def __post_init__(self) -> None:
        for name in ("hazard", "repair", "lucky", "noise"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"Prior.{name} must lie in [0, 1], got {getattr(self, name)!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _ENDS:
                if len(value) != len(BANDS) or min(value) < 0.0 or max(value) > 1.0:
                    raise InputError(f"Prior.{field.name} must be {len(BANDS)} chances in [0, 1], got {value}")
            elif isinstance(value, tuple):
                size = len(LEVELS) if field.name == "start" else len(RATES) if field.name.startswith("agree") else len(MOVES)
                if len(value) != size or min(value) < 0.0 or abs(sum(value) - 1.0) > 1e-6:
                    raise InputError(f"Prior.{field.name} must be {size} weights of sum 1, got {len(value)} of sum {sum(value):.6g}")

    def never_repaired(self) -> Prior:
        """The same prior for a completer that never ends right after an error: every error brings V to exactly 0, and a right outcome excludes them all."""
        ruin = np.zeros(len(MOVES))
        ruin[len(SHIFTS)] = 1.0
        return replace(self, fall=normalised(ruin), repair=0.0, lucky=0.0, astray_right=(0.0,) * len(BANDS))

    def kernel(self, name: str) -> Floats:
        """[G, G]: chance of level b after level a, for "rise", "fall", "stay" or "recover"."""
        return self._kernels[name]

    def ends(self, name: str) -> Floats:
        """[G]: chance of an end by level, for "end_right", "end_error", "astray_right" or "astray_wrong"."""
        return self._by_level[name]

    @cached_property
    def _by_level(self) -> dict[str, Floats]:
        return {name: np.array(getattr(self, name))[BAND] for name in _ENDS}

    @cached_property
    def _kernels(self) -> dict[str, Floats]:
        return {name: np.tensordot(np.array(getattr(self, name)), MOVES, axes=1) for name in ("rise", "fall", "stay", "recover")}

    @cached_property
    def key(self) -> str:
        """Names all parameters."""
        return content_hash(canonical_json(asdict(self)))[:16]

    def describe(self) -> dict[str, Any]:
        """The rates in short, for a label's source."""
        return {
            "key": self.key,
            "fitted": self.fitted,
            "hazard": round(self.hazard, 4),
            "repair": round(self.repair, 4),
            "fall_to_zero": round(self.fall[-2], 4),
        }


DEFAULT_PRIOR = Prior()
