"""load_policy: a policy from the string that a user types. The one registry of policies; each is imported only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepward.core import InputError, Policy

TINY = {  # the shipped models and the recipes that make them
    "tiny": (Path(__file__).with_name("tiny"), "recipes/train_tiny_policy.py"),
    "tiny:deduction": (Path(__file__).with_name("tiny_deduction"), "recipes/train_tiny_reasoner.py"),
}
_TINY_ROWS = 1024  # the model is small: many rows at once cost little memory and make larger matrix products
_FORMS = "tiny, tiny:deduction, scripted:grade-school, scripted:deduction, hf:FOLDER_OR_ID, http://HOST:PORT/v1 or https://HOST/v1 (with a model name)"


def load_policy(spec: str, *, model_name: str | None = None, **options: Any) -> Policy:
    """The policy that `spec` names; `options` go to it as keyword arguments.

    tiny, tiny:deduction: the models shipped in this package, which solve easy grade-school problems and simple deductions (`deduction:simple`).
    scripted:grade-school, scripted:deduction: the stochastic solvers of these environments, with exact values. hf:FOLDER_OR_ID: a transformers
    causal language model. http://..., https://...: an OpenAI-compatible server, whose model is `model_name`.

    Raises: InputError for an unknown form, listing the known ones.
    """
    if spec.startswith(("http://", "https://")):
        from stepward.policies.http import HttpPolicy

        if not model_name:
            raise InputError(f"policy {spec!r} needs the name of the server's model; give --model-name (model_name=...)")
        return HttpPolicy(spec, model_name, **options)
    if model_name is not None:
        raise InputError(f"model_name={model_name!r} belongs to http policies; policy {spec!r} takes none")
    kind, _, rest = spec.partition(":")
    if spec in TINY:
        from stepward.policies.local import LocalPolicy

        return LocalPolicy.from_pretrained(tiny_folder(spec), **{"max_rows": _TINY_ROWS, **options})
    if kind == "hf" and rest:
        from stepward.policies.local import LocalPolicy

        return LocalPolicy.from_pretrained(rest, **options)
    if spec == "scripted:grade-school":
        from stepward.policies.scripted import ScriptedSolver

        return ScriptedSolver(**options)
    if spec == "scripted:deduction":
        from stepward.policies.scripted import ScriptedReasoner

        return ScriptedReasoner(**options)
    raise InputError(f"unknown policy {spec!r}; the forms are {_FORMS}")


def has_weights(spec: str) -> bool:
    """Whether the policy that `spec` names runs on a device of this machine, and so takes the option `device`."""
    return spec in TINY or spec.startswith("hf:")


def tiny_folder(spec: str = "tiny") -> Path:
    """The folder of a shipped tiny policy: a Llama that transformers loads.

    Raises: InputError for a name that no shipped policy has, and where the installation lacks the folder.
    """
    if spec not in TINY:
        raise InputError(f"no shipped policy is called {spec!r}; there are {', '.join(TINY)}")
    folder, recipe = TINY[spec]
    if not (folder / "config.json").exists():
        raise InputError(f"this installation lacks the shipped policy {spec!r}; install the wheel, or make it with {recipe}")
    return folder
