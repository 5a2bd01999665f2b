"""load_judge: a generative reward model from its name and a policy. The one registry of judges; what each means is in its own file."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from stepward.core import InputError, Policy, RewardModel, Sampling
from stepward.rewards.generative.critic import Critic, FoVerCritic, OnePass
from stepward.rewards.generative.genprm import GenPRM
from stepward.rewards.generative.model import GREEDY, GenerativeModel
from stepward.rewards.generative.pairwise import PairwiseJudge
from stepward.rewards.generative.rprm import RPRM
from stepward.rewards.generative.rubric import PrincipleJudge, Rubric, RubricJudge
from stepward.rewards.generative.stepwiser import StepWiser
from stepward.rewards.generative.task import JudgeTask
from stepward.rewards.generative.thinkprm import ThinkPRM

JUDGES = {
    "thinkprm": "ThinkPRM, one chain of thought about all steps",
    "genprm": "GenPRM, one step a turn with analysis and code",
    "r-prm": "R-PRM, five analyses a step",
    "stepwiser": "StepWiser, one analysis a step",
    "critic": "ProcessBench's critic, which names the first error",
    "one-pass": "every step judged in one answer",
    "fover-gen": "FoVer's single-turn prompt, every step judged in one answer",
    "rubric": "a rubric's criteria, checked step by step (rubric=...)",
    "principle": "a score from 1 to 10 by principles, step by step",
}
_TASKS: dict[str, type[JudgeTask]] = {
    "thinkprm": ThinkPRM, "r-prm": RPRM, "stepwiser": StepWiser, "critic": Critic, "one-pass": OnePass, "fover-gen": FoVerCritic, "rubric": RubricJudge,
    "principle": PrincipleJudge,
}  # fmt: skip
_JURY_OPTIONS = ("k", "reduce", "read", "sampling")
_SAMPLED = {  # what the authors sample with where they take several answers
    "thinkprm": Sampling(temperature=0.4, max_tokens=8192),
    "r-prm": Sampling(temperature=0.7, top_p=0.95, max_tokens=8192),
    "stepwiser": Sampling(temperature=1.0, max_tokens=3096),
    "critic": Sampling(temperature=1.0, top_p=0.9, max_tokens=8192),
    "principle": Sampling(temperature=0.5, max_tokens=8192),
}
_OTHER_SAMPLED = Sampling(temperature=0.7, max_tokens=8192)


def load_judge(kind: str, policy: Policy | str, *, model_name: str | None = None, **options: Any) -> RewardModel:
    """The judge `kind` (see `JUDGES`) on a policy, or on the policy that a specification names (`model_name` for http policies).

    Options of every judge: k, reduce ("mean", "majority", "min"; "index" for the critic), read ("probability", "words"), sampling. Without `sampling` one
    answer is greedy and several are drawn as the authors draw them. Other options are the method's own: variant, judges, rounds, after_error (thinkprm);
    executor ("sandbox": the judge's code is run there), rounds, turns (genprm); after_error (critic, one-pass, fover-gen); rubric (data or a file), unit
    (rubric); principles, unit (principle).

    Raises: InputError for an unknown judge or option.
    """
    if kind not in JUDGES:
        raise InputError(f"unknown judge {kind!r}; choose one of " + "; ".join(f"{name} ({meaning})" for name, meaning in JUDGES.items()))
    takes = [name for name in signature(_TASKS.get(kind, GenPRM)).parameters if name != "policy"]
    takes += [name for name in _JURY_OPTIONS if name not in takes]
    if unknown := [name for name in options if name not in takes]:
        raise InputError(f"judge {kind!r} has no option {unknown[0]!r}; it takes {', '.join(takes)}")
    writer = _policy(policy, model_name)
    try:
        if kind == "genprm":
            return GenPRM(writer, **options | _executor(options))
        jury = {name: options.pop(name) for name in _JURY_OPTIONS if name in options}
        jury.setdefault("sampling", GREEDY if jury.get("k", 1) == 1 else _SAMPLED.get(kind, _OTHER_SAMPLED))
        if jury.get("reduce") == "index" and kind != "critic":
            raise InputError(f"reduce='index' votes on the index of the first error, which is the critic's; judge {kind!r} takes mean, majority or min")
        if kind == "rubric":
            rubric = options.pop("rubric", None)
            if rubric is None:
                raise InputError("judge 'rubric' needs rubric=...: a list of criteria, or a JSON file with one")
            options["rubric"] = rubric if isinstance(rubric, Rubric) else Rubric.from_data(rubric)
        return GenerativeModel(writer, _TASKS[kind](**options), **jury)
    except TypeError as error:
        raise InputError(f"judge {kind!r}: {error}") from error


def load_pairwise(policy: Policy | str, prompt: str = "rm-r1", *, model_name: str | None = None, **options: Any) -> PairwiseJudge:
    """A pairwise judge on a policy or on the policy that a specification names; `prompt` is one of `pairwise.PAIR_PROMPTS`, `options` are PairwiseJudge's."""
    return PairwiseJudge(_policy(policy, model_name), prompt, **options)


def split_judge(spec: str | Path) -> tuple[str, str] | None:
    """(kind, policy specification) of "KIND:POLICY", such as thinkprm:hf:FOLDER or critic:http://localhost:8000/v1; None where it names no judge."""
    kind, colon, policy = str(spec).partition(":")
    return (kind, policy) if colon and policy and kind in JUDGES else None


def _executor(options: dict[str, Any]) -> dict[str, Any]:
    """GenPRM's executor where it is named in text. Raises: NoSandbox where no sandbox works."""
    if options.get("executor") != "sandbox":
        return {}
    from stepward.rewards.code.executor import SandboxedPython

    return {"executor": SandboxedPython()}


def _policy(policy: Policy | str, model_name: str | None) -> Policy:
    if not isinstance(policy, str):
        return policy
    from stepward.policies.load import load_policy

    return load_policy(policy, model_name=model_name)
