"""load_combination: a combination of reward models from its specification. The grammar is in `specification`, single models are the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from stepward.core import InputError, LogprobPolicy, Policy, RewardModel
from stepward.rewards.combine.specification import Call, Leaf, parse

Kinds = Mapping[str, Callable[[str], Any]]
LoadModel = Callable[[str], RewardModel]
LoadPolicy = Callable[[str], Policy]

FORMS = {
    "mean(A, B, ...; weights=2:1, missing=skip)": "the mean of several models' scores",
    "min(A, B, ...)": "the smallest of several models' scores",
    "median(A, B, ...)": "the median of several models' scores",
    "lcb(A, B, ...; k=1)": "mean minus k standard deviations",
    "capped(A, tools:arithmetic; cap=0, support=0.5)": "A, under a verifier's veto",
    "lifted(A; how=prefixes)": "an outcome model asked at every prefix (or how=last)",
    "calibrated(A, FILE; threshold=0.5)": "A through the calibration that `stepward calibrate` wrote (other_model=allow: also one fitted on another model)",
    "bidirectional(A; gate=0.5)": "A from left to right and from right to left; a second model reads from the right",
    "process-and-value(A, B; beta=1, beta_on=value, aggregation=last)": "a process model and beta times a value model",
    "confidence(POLICY; of=mean)": "the policy's own probability of each step's tokens: mean, min, geometric or entropy",
    "answer-confidence(POLICY)": "the policy's probability of the final answer's tokens",
    "follow-up(POLICY)": "how much more likely the policy finds approval than disapproval after the solution",
}


def load_combination(text: str, load_model: LoadModel, *, load_policy: LoadPolicy | None = None) -> RewardModel:
    """The reward model that a specification names; `load_model` loads what is not a combination, `load_policy` the policies of confidences.

    Raises: InputError for a specification that cannot be read, an unknown option, or a value that the combination refuses.
    """
    return _Builder(load_model, load_policy or _default_policy).model(parse(text))


def _default_policy(spec: str) -> Policy:
    from stepward.policies.load import load_policy

    return load_policy(spec)


class _Builder:
    def __init__(self, load_model: LoadModel, load_policy: LoadPolicy) -> None:
        self.load_model, self.load_policy = load_model, load_policy
        self.loaded: dict[str, RewardModel] = {}  # a model that is named twice is held once, with one cache

    def model(self, tree: Call | Leaf) -> RewardModel:
        if isinstance(tree, Leaf):
            if tree.text not in self.loaded:
                self.loaded[tree.text] = self.load_model(tree.text)
            return self.loaded[tree.text]
        return self._build(tree, _options(tree))  # mistakes in the options are told before any model is loaded

    def _build(self, tree: Call, chosen: Mapping[str, Any]) -> RewardModel:
        name = tree.name
        if name in _RULES:
            from stepward.rewards.combine.ensemble import Ensemble

            return Ensemble([self.model(argument) for argument in tree.arguments], name, **chosen)
        if name == "capped":
            from stepward.rewards.combine.capped import Capped

            return Capped(*map(self.model, tree.arguments), **chosen)
        if name == "lifted":
            from stepward.rewards.combine.lifted import Lifted

            return Lifted(self.model(tree.arguments[0]), **chosen)
        if name == "calibrated":
            from stepward.rewards.calibration import Calibrated, Calibration

            calibration = Calibration.load(_text(tree, 1))
            return Calibrated(self.model(tree.arguments[0]), calibration, **chosen)
        if name == "bidirectional":
            from stepward.rewards.combine.bidirectional import Bidirectional

            return Bidirectional(*map(self.model, tree.arguments), **chosen)
        if name == "process-and-value":
            from stepward.rewards.combine.process_and_value import ProcessAndValue

            return ProcessAndValue(*map(self.model, tree.arguments), **chosen)
        from stepward.rewards.combine.confidence import AnswerConfidence, StepConfidence
        from stepward.rewards.combine.follow_up import FollowUpLikelihood

        policy = cast(LogprobPolicy, self.load_policy(_text(tree, 0)))  # the models check that it has log-probabilities
        if name == "confidence":
            return StepConfidence(policy, **chosen)
        return AnswerConfidence(policy) if name == "answer-confidence" else FollowUpLikelihood(policy)


def _options(tree: Call) -> dict[str, Any]:
    """The options of a combination, as numbers and words. Raises: InputError for another number of arguments, and for options that nobody takes."""
    least, most, kinds = _TAKES[tree.name]
    if len(tree.arguments) < least or (most is not None and len(tree.arguments) > most):
        wanted = f"at least {least}" if most is None else str(least) if least == most else f"{least} or {most}"
        raise InputError(f"{tree.name!r} takes {wanted} argument(s), got {len(tree.arguments)} in {tree}; quote names that hold commas")
    given = cast(Mapping[str, str], tree.options)
    unknown = sorted(set(given) - set(kinds))
    if "k" in unknown and tree.name in _RULES:
        raise InputError(f"option k of {tree} belongs to lcb, the mean minus k standard deviations")
    if unknown:
        raise InputError(f"{tree.name!r} has no option {', '.join(unknown)}; its options: {', '.join(kinds) or 'none'}")
    chosen = {}
    for key, value in given.items():
        try:
            chosen[key] = kinds[key](value)
        except ValueError as error:
            raise InputError(f"option {key}={value!r} of {tree.name!r}: {error}") from error
    return chosen


def _text(tree: Call, index: int) -> str:
    argument = tree.arguments[index]
    if not isinstance(argument, Leaf):
        raise InputError(f"argument {index + 1} of {tree.name!r} is a name, not a combination; got {argument}")
    return argument.text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a number") from None


def _weights(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(":"))


_RULES = ("mean", "min", "median", "lcb")
_ENSEMBLE: dict[str, Callable[[str], Any]] = {"weights": _weights, "missing": str, "threshold": _number}
_TAKES: dict[str, tuple[int, int | None, Kinds]] = {  # fewest and most arguments, options
    **{rule: (1, None, _ENSEMBLE | {"k": _number} if rule == "lcb" else _ENSEMBLE) for rule in _RULES},
    "capped": (2, 2, {"cap": _number, "support": _number, "missing": str}),
    "lifted": (1, 1, {"how": str}),
    "calibrated": (2, 2, {"threshold": _number, "other_model": str}),
    "bidirectional": (1, 2, {"gate": _number, "missing": str}),
    "process-and-value": (2, 2, {"beta": _number, "beta_on": str, "aggregation": str, "threshold": _number}),
    "confidence": (1, 1, {"of": str}),
    "answer-confidence": (1, 1, {}),
    "follow-up": (1, 1, {}),
}
