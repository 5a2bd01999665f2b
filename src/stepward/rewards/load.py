"""load_reward_model: a reward model from its specification, the string that users type. What each form means is in the model's own file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepward.core import DEFAULT_SAMPLING, InputError, Policy, RewardModel, Sampling

if TYPE_CHECKING:
    from stepward.rewards.convention import Convention
    from stepward.rewards.families.family import ReadBy
    from stepward.rewards.loading import CheckpointFolder, LoadIn

FORMS = {
    "prm:FOLDER_OR_ID": "a step-scoring checkpoint from a folder or the hub; a bare folder or hub id (OWNER/NAME) means the same",
    "tools:NAME, tools:NAME+NAME, tools:all": "steps checked by tools: arithmetic, algebra, quantities, ...; no weights",
    "JUDGE:POLICY": "a generative judge on a policy: thinkprm, genprm, r-prm, stepwiser, critic, one-pass, fover-gen, rubric, principle",
    "vllm:URL, sglang:URL": "a model that such a server serves; needs its tokenizer",
    "stepward:URL": "a model behind `stepward serve`",
    "mean(A, B), min, median, lcb, capped, lifted, calibrated(A, FILE), ...": "combinations of the others",
    "oracle:grade-school, oracle:deduction": "the exact truth of a world's steps",
}


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What goes with a specification; each form takes what it understands and ignores the rest.

    Models with weights: `dtype` (float32, bfloat16, float16), `device`, `load_in` ("8bit", "4bit"), `compile`, `max_batch_tokens` a forward pass,
    `cache_bytes` for states of prefixes, `convention` (a `Convention`, a family's name or a JSON file; None: recognised), `reference` (the second model
    of a log-ratio; "none" to go without). Remote models: `tokenizer` (folder or hub id of the served model; its weights are not loaded), `convention`,
    `model_name` as the server knows it. Judges: `model_name` of an http policy, and `judge`, the options of
    `stepward.rewards.generative.load.load_judge` (k, reduce, ...). `token`: what servers ask for.
    """

    dtype: str = "float32"
    device: str = "cpu"
    load_in: LoadIn | None = None
    compile: bool = False
    max_batch_tokens: int = 8192
    cache_bytes: int = 1 << 28
    convention: Convention | str | None = None
    reference: str | Path | None = None
    tokenizer: str | Path | None = None
    model_name: str | None = None
    token: str | None = None
    judge: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_LOAD = LoadOptions()


def load_reward_model(spec: str | Path, options: LoadOptions = DEFAULT_LOAD, **changes: Any) -> RewardModel:
    """The reward model that `spec` names; `changes` are fields of `LoadOptions`.

    Raises: InputError listing the known forms, or saying what is wrong with the model that was named; MissingExtra for what is not installed.
    """
    text = str(spec)
    try:
        chosen = replace(options, **changes)
    except TypeError as error:
        raise InputError(f"unknown option of load_reward_model: {error}; known ones: {', '.join(LoadOptions.__dataclass_fields__)}") from error
    return _named(text, chosen) or _combined(text, chosen) or _served(text, chosen) or _judge(text, chosen) or _checkpoint(text, chosen)


def _named(text: str, _: LoadOptions) -> RewardModel | None:
    if text.startswith("tools:"):
        from stepward.rewards.verifiers import load_tools

        return load_tools(text)
    if text in ("oracle:grade-school", "oracle:deduction"):
        from stepward.rewards.oracle import deduction_oracle, grade_school_oracle

        return grade_school_oracle() if text.endswith("school") else deduction_oracle()
    return None


def _combined(text: str, options: LoadOptions) -> RewardModel | None:
    from stepward.rewards.combine.load import load_combination
    from stepward.rewards.combine.specification import is_combination

    if os.path.isdir(text) or not is_combination(text):  # unlike Path.is_dir, never raises: specifications can be longer than names of files
        return None
    return load_combination(text, lambda part: load_reward_model(part, options), load_policy=lambda part: _policy(part, options))


def _served(text: str, options: LoadOptions) -> RewardModel | None:
    from stepward.rewards.remote.load import is_remote, load_remote

    if text.startswith("stepward:"):
        from stepward.rewards.remote_stepward import ServedModel

        return ServedModel.from_spec(text, token=options.token)
    if not is_remote(text):
        return None
    from stepward.rewards.loading import CheckpointFolder

    if options.tokenizer is None:
        raise InputError(f"{text!r} needs the tokenizer of the model that it serves: --tokenizer FOLDER_OR_ID (its weights are not loaded)")
    checkpoint = CheckpointFolder(options.tokenizer)
    convention, _ = _reading(checkpoint, options)
    return load_remote(text, tokenizer=checkpoint.tokenizer, convention=convention, model_name=options.model_name or "", api_key=options.token)


def _judge(text: str, options: LoadOptions) -> RewardModel | None:
    from stepward.rewards.generative.load import load_judge, split_judge

    named = split_judge(text)
    if named is None:
        return None
    chosen = dict(options.judge)
    if not isinstance(k := chosen.get("k", 1), int) or isinstance(k, bool):
        raise InputError(f"judge option k takes a whole number, got {k!r}")
    if not isinstance(sampling := chosen.get("sampling", DEFAULT_SAMPLING), Sampling):
        try:
            chosen["sampling"] = Sampling(**sampling)
        except TypeError as error:
            raise InputError(f"judge option sampling: {error}") from error
    return load_judge(named[0], _policy(named[1], options), **chosen)


def _policy(text: str, options: LoadOptions) -> Policy:
    """The policy that a judge or a confidence asks, where models with weights run or with what the server asks for."""
    from stepward.policies.load import has_weights, load_policy

    if text.startswith(("http://", "https://")):
        if not options.model_name:
            raise InputError(f"policy {text!r} needs the name of the server's model: --served-name NAME (model_name=...)")
        return load_policy(text, model_name=options.model_name, api_key=options.token)
    return load_policy(text, **({"device": options.device} if has_weights(text) else {}))


def _checkpoint(text: str, options: LoadOptions) -> RewardModel:
    kind, colon, name = text.partition(":")
    named = os.path.isdir(text) or (not colon and text.count("/") == 1 and not text.startswith((".", "/")))
    source = name if colon and kind == "prm" else text if named else ""
    if not source:
        forms = "; ".join(f"{form} ({meaning})" for form, meaning in FORMS.items())
        raise InputError(f"unknown reward model {text!r}; known forms: {forms}")
    from stepward.rewards.loading import CheckpointFolder

    convention, reader = _reading(CheckpointFolder(source), options)
    loading: dict[str, Any] = {name: getattr(options, name) for name in ("dtype", "device", "load_in", "compile", "max_batch_tokens", "cache_bytes")}
    if reader == "implicit":
        from stepward.rewards.implicit import ImplicitModel

        if options.reference is None:
            raise InputError(f"{source!r} is scored by its log-ratio to a reference model: give --reference FOLDER_OR_ID, or --reference none to go without")
        reference = None if str(options.reference) == "none" else options.reference
        return ImplicitModel.from_pretrained(source, reference=reference, convention=convention, **loading)
    if reader == "pathfinder":
        from stepward.rewards.pathfinder import PathFinderModel

        return PathFinderModel.from_pretrained(source, convention=convention, **loading)
    from stepward.rewards.discriminative import DiscriminativeModel

    return DiscriminativeModel.from_pretrained(source, convention=convention, **loading)


def _reading(checkpoint: CheckpointFolder, options: LoadOptions) -> tuple[Convention, ReadBy]:
    """How a checkpoint is read and by which of our models."""
    from stepward.rewards.families import convention_from, reading_of

    return reading_of(checkpoint, convention_from(options.convention) if isinstance(options.convention, str) else options.convention)
