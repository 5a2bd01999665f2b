"""A calibration as vLLM's pooler parameters, where that is exact."""

from __future__ import annotations

from typing import Literal, get_args

from stepward.core import InputError
from stepward.rewards.calibration.platt import Platt
from stepward.rewards.calibration.record import Calibration
from stepward.rewards.calibration.temperature import Temperature

Head = Literal["sigmoid", "softmax"]


def vllm_pooler_config(calibration: Calibration, *, head: Head) -> dict[str, float]:
    """The `logit_mean` and `logit_sigma` of vLLM's PoolerConfig (`--pooler-config`) that make a server return the calibrated probabilities.

    vLLM computes activation((logits - logit_mean) / logit_sigma), the same two numbers for every output of the head. `head` says what the activation is:
    "sigmoid" (one output, the logit z itself): temperature is logit_sigma = tau, Platt is logit_sigma = 1 / slope and logit_mean = -intercept / slope.
    "softmax" (two outputs, z their difference, as in Qwen2.5-Math-PRM): a common shift cancels in the softmax, so only a temperature can be exported; for a
    Platt intercept the head's own bias would have to change. Exact for every logit inside the calibration's bounds (`Logits`); beyond them the server
    does not clip. Nothing but temperature and Platt is affine in the logit.

    Raises: InputError with the reason where there is no exact export.
    """
    if head not in get_args(Head):
        raise InputError(f"head must be one of {', '.join(get_args(Head))}, got {head!r}")
    if calibration.scale not in ("probability", "logit"):
        raise InputError(f"scores on the {calibration.scale} scale are not an affine function of the head's logit; vLLM cannot compute this calibration")
    mapping = calibration.map
    if isinstance(mapping, Temperature):
        return {"logit_sigma": mapping.tau}
    if not isinstance(mapping, Platt):
        raise InputError(f"{calibration.method} calibration is not affine in the logit, and vLLM applies (logit - mean) / sigma only; fit temperature or platt")
    if head == "softmax":
        raise InputError(
            "vLLM subtracts logit_mean from both outputs of a softmax head, which changes nothing, so Platt's intercept would be lost; fit temperature, or "
            f"add {mapping.intercept / mapping.slope:.6g} to the bias of the head's 'good' output and use logit_sigma = {1.0 / mapping.slope:.6g}"
        )
    return {"logit_mean": -mapping.intercept / mapping.slope, "logit_sigma": 1.0 / mapping.slope}
