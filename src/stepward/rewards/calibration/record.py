"""Calibration: a fitted map from a model's scores to probabilities, with what it was fitted on. The maps and their fits are in their own files."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, FormatError, InputError, Scale, canonical_json, content_hash
from stepward.core.record import check_header, header, record_kind, require
from stepward.data.atomic import replacing


class CalibrationMap(ABC):
    """A monotone map of scores. Frozen; `to_json` and `from_json` are exact inverses."""

    method: ClassVar[str]

    @abstractmethod
    def __call__(self, scores: Floats) -> Floats:
        """Values in [0, 1] for known scores."""

    def bounds(self, scores: Floats) -> dict[str, Floats]:
        """Other values for the same scores by name; empty for maps without bounds."""
        del scores
        return {}

    @abstractmethod
    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    @abstractmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self: ...


@record_kind("calibration")
@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Scores to probabilities, and where that comes from.

    `scale`: of the scores it takes. `n`: pairs it was fitted on, `n_skipped` further ones were unknown; `base_rate`: their (weighted) mean target.
    `model`: fingerprint of the model whose scores they were, `data`: content hash of the labelled data, `targets`: what the targets mean (the labels'
    semantics). Empty where the caller did not say. Nothing in it depends on when or where it was fitted.
    """

    map: CalibrationMap
    scale: Scale
    n: int
    n_skipped: int = 0
    base_rate: float = math.nan
    model: str = ""
    data: str = ""
    targets: str = ""

    @property
    def method(self) -> str:
        return self.map.method

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the values."""
        return f"calibration-{self.method}:{content_hash(self.scale, canonical_json(self.map.to_json()))}"

    def __call__(self, scores: ArrayLike) -> Floats:
        """The calibrated value of every score, any shape; NaN stays NaN.

        Raises: InputError for scores that are not on the scale it takes.
        """
        return self._each(scores, self.map)

    def bounds(self, scores: ArrayLike) -> dict[str, Floats]:
        """Bounds of every score by name ("low", "high"); empty for methods without bounds."""
        array = np.asarray(scores, dtype=np.float64)
        names = self.map.bounds(np.zeros(0))
        return {name: self._each(array, lambda known, name=name: self.map.bounds(known)[name]) for name in names}

    def described(self, *, model: str = "", data: str = "", targets: str = "") -> Calibration:
        """The same calibration, saying what it was fitted on."""
        return replace(self, model=model or self.model, data=data or self.data, targets=targets or self.targets)

    def save(self, path: str | Path) -> None:
        """Write it as one JSON object; a reader sees all of it or the old file."""
        with replacing(path) as file:
            file.write((json.dumps(self.to_record(), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises: InputError for a missing file, FormatError for one that holds no calibration.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the calibration {str(path)!r} ({error.strerror}); make one with `stepward calibrate`") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise FormatError(f"not a JSON object: {error}", file=str(path)) from error
        if not isinstance(record, dict):
            raise FormatError("not a JSON object", file=str(path))
        try:
            return cls.from_record(record)
        except FormatError as error:
            raise FormatError(error.reason, file=str(path), field=error.field) from error

    def to_record(self) -> dict[str, Any]:
        return header("calibration") | {
            "method": self.method,
            "parameters": self.map.to_json(),
            "scale": self.scale,
            "n": self.n,
            "n_skipped": self.n_skipped,
            "base_rate": None if math.isnan(self.base_rate) else self.base_rate,
            "model": self.model,
            "data": self.data,
            "targets": self.targets,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Calibration:
        from stepward.rewards.calibration.methods import MAPS

        check_header(record, "calibration")
        method, base_rate = require(record, "method", str), require(record, "base_rate", (float, int, type(None)))
        if method not in MAPS:
            raise FormatError(f"unknown method {method!r}; this stepward knows {', '.join(MAPS)}", field="method")
        try:
            mapping = MAPS[method].from_json(require(record, "parameters", Mapping))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"malformed parameters of {method!r}: {type(error).__name__}: {error}", field="parameters") from error
        return cls(
            map=mapping,
            scale=require(record, "scale", str),
            n=require(record, "n", int),
            n_skipped=require(record, "n_skipped", int),
            base_rate=math.nan if base_rate is None else float(base_rate),
            model=require(record, "model", str),
            data=require(record, "data", str),
            targets=require(record, "targets", str),
        )

    def _each(self, scores: ArrayLike, function: Any) -> Floats:
        array = np.asarray(scores, dtype=np.float64)
        known = ~np.isnan(array)
        given = array[known]
        if self.scale == "probability" and given.size and (given.min() < 0.0 or given.max() > 1.0):
            raise InputError(f"the calibration takes probabilities in [0, 1], got {given.min():.6g} to {given.max():.6g}")
        result = np.full(array.shape, np.nan)
        result[known] = np.clip(function(given), 0.0, 1.0)
        return result
