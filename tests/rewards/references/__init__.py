"""Reference scorers, one a checkpoint family: plain loops written from the authors' public code, sharing no code with `stepward`.

Each takes a loaded folder, a problem and the texts of its steps, and gives one score a step. They tokenise whole strings as the authors do, run the whole
model on one sequence at a time in fp32, and find positions by character offsets. Where the authors' code trips over an input (a marker or a special token
spelled in a step adds a score, an empty step vanishes), they follow what the code means: such text is plain text, and every step has one score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.rewards.references.checkpoint import Checkpoint
from tests.rewards.references.classifiers import (
    pqm,
    pure_prm,
    qwen_math_prm,
    reasoneval_7b,
    reasoneval_34b,
    reasonflux_1_5b,
    reasonflux_7b,
    skywork,
    trl_token_classification,
    universal_prm,
)
from tests.rewards.references.passes import implicit_prm, pathfinder_prm
from tests.rewards.references.turns import fover, rlhflow, visual_prm
from tests.rewards.references.verdicts import er_prm, math_psa, math_shepherd, med_prm, versa_prm

Scorer = Callable[[Checkpoint, str, Sequence[str]], list[float]]

REFERENCES: dict[str, Scorer] = {
    "qwen2.5-math-prm": qwen_math_prm,
    "reasonflux-prm-7b": reasonflux_7b,
    "reasonflux-prm-1.5b": reasonflux_1_5b,
    "skywork-o1-open-prm": skywork,
    "trl-token-classification": trl_token_classification,
    "pure-prm": pure_prm,
    "pqm": pqm,
    "reasoneval-34b": reasoneval_34b,
    "reasoneval-7b": reasoneval_7b,
    "universal-prm": universal_prm,
    "math-shepherd": math_shepherd,
    "er-prm-mistral": er_prm,
    "er-prm-llama": er_prm,
    "math-psa": math_psa,
    "versa-prm": versa_prm,
    "med-prm": med_prm,
    "rlhflow-mistral": rlhflow,
    "rlhflow-deepseek": rlhflow,
    "fover": fover,
    "visual-prm": visual_prm,
    "eurus-prm": implicit_prm,
    "implicit-prm": implicit_prm,
    "pathfinder-prm": pathfinder_prm,
}

__all__ = ["REFERENCES", "Checkpoint", "Scorer"]
