"""The calibration methods by name, for the command line and for reading records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from stepward.core import InputError, Scale
from stepward.rewards.calibration.isotonic import Isotonic, fit_isotonic
from stepward.rewards.calibration.platt import Beta, Platt, fit_beta, fit_platt
from stepward.rewards.calibration.quantile import Quantiles, fit_quantiles
from stepward.rewards.calibration.record import Calibration, CalibrationMap
from stepward.rewards.calibration.temperature import Temperature, fit_temperature

MAPS: dict[str, type[CalibrationMap]] = {map_.method: map_ for map_ in (Temperature, Platt, Beta, Isotonic, Quantiles)}
FITS: dict[str, Callable[..., Calibration]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
    "quantile": fit_quantiles,
}


def check_method(method: str) -> None:
    """Raises: InputError listing the known methods."""
    if method not in FITS:
        raise InputError(f"unknown calibration method {method!r}; choose one of {', '.join(FITS)}")


def fit(
    method: str,
    scores: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    scale: Scale = "probability",
    model: str = "",
    data: str = "",
    **options: Any,
) -> Calibration:
    """The calibration of `method` fitted on scores [N] and targets [N] in [0, 1]; pairs with an unknown side (NaN) are left out and counted."""
    check_method(method)
    return FITS[method](scores, targets, weights, scale=scale, model=model, data=data, **options)
