"""Calibration of reward models: maps from scores to probabilities, fitted on labelled steps and saved beside the model. NumPy only.

How well scores are calibrated is measured in `evaluation.calibration`.
"""

from stepward.rewards.calibration.calibrated import Calibrated
from stepward.rewards.calibration.cross import cross_calibrated
from stepward.rewards.calibration.isotonic import Isotonic, fit_isotonic
from stepward.rewards.calibration.logits import Logits
from stepward.rewards.calibration.methods import FITS, MAPS, check_method, fit
from stepward.rewards.calibration.pairs import StepPairs, data_hash, step_pairs
from stepward.rewards.calibration.platt import Beta, Platt, fit_beta, fit_platt
from stepward.rewards.calibration.pooler import vllm_pooler_config
from stepward.rewards.calibration.quantile import Quantiles, fit_quantiles, pinball
from stepward.rewards.calibration.record import Calibration, CalibrationMap
from stepward.rewards.calibration.temperature import Temperature, fit_temperature

__all__ = [
    "FITS", "MAPS", "Beta", "Calibrated", "Calibration", "CalibrationMap", "Isotonic", "Logits", "Platt", "Quantiles", "StepPairs", "Temperature",
    "check_method", "cross_calibrated", "data_hash", "fit", "fit_beta", "fit_isotonic", "fit_platt", "fit_quantiles", "fit_temperature", "pinball",
    "step_pairs", "vllm_pooler_config",
]  # fmt: skip
