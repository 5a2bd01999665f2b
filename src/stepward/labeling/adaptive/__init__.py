"""Adaptive Monte-Carlo labels: rollouts are spent where they change a label. The mathematics is in docs/adaptive.md."""

from stepward.labeling.adaptive.chain import Chain
from stepward.labeling.adaptive.changepoint import Posterior, infer
from stepward.labeling.adaptive.confidence import clopper_pearson, confidence_sequence, jeffreys
from stepward.labeling.adaptive.fit import fit_prior
from stepward.labeling.adaptive.half_width import HalfWidth
from stepward.labeling.adaptive.labeler import Adaptive
from stepward.labeling.adaptive.prior import DEFAULT_PRIOR, Prior
from stepward.labeling.adaptive.stopped import StoppedBinomial, stopped_by
from stepward.labeling.adaptive.stopping import BetaPosterior, Decision, EValue, FirstSuccess, Fixed, InverseBinomial, Sprt, StopRule
from stepward.labeling.adaptive.witness import Witness

__all__ = [
    "DEFAULT_PRIOR",
    "Adaptive",
    "BetaPosterior",
    "Chain",
    "Decision",
    "EValue",
    "FirstSuccess",
    "Fixed",
    "HalfWidth",
    "InverseBinomial",
    "Posterior",
    "Prior",
    "Sprt",
    "StopRule",
    "StoppedBinomial",
    "Witness",
    "clopper_pearson",
    "confidence_sequence",
    "fit_prior",
    "infer",
    "jeffreys",
    "stopped_by",
]
