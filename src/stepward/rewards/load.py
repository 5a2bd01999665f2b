"""load_reward_model: a reward model from its specification, the string that users type. What each form means is in the model's own file."""

from __future__ import annotations

from pathlib import Path

from stepward.core import InputError, RewardModel

FORMS = {
    "tools:arithmetic": "the arithmetic step verifier; no weights",
    "prm:FOLDER_OR_ID": "a step classifier from a folder or the hub; a bare folder or hub id (OWNER/NAME) means the same",
    "oracle:grade-school": "the exact truth of grade-school problems",
}


def load_reward_model(spec: str | Path, *, dtype: str = "float32", device: str = "cpu", max_batch_tokens: int = 8192) -> RewardModel:
    """The reward model that `spec` names; `dtype`, `device` and `max_batch_tokens` are for models with weights.

    Raises: InputError listing the known forms, or saying what is wrong with the model that was named.
    """
    text = str(spec)
    kind, colon, name = text.partition(":")
    if text == "tools:arithmetic":
        from stepward.rewards.arithmetic import ArithmeticVerifier

        return ArithmeticVerifier()
    if text == "oracle:grade-school":
        from stepward.rewards.oracle import grade_school_oracle

        return grade_school_oracle()
    named = Path(text).is_dir() or (not colon and text.count("/") == 1 and not text.startswith((".", "/")))
    source = name if colon and kind == "prm" else text if named else ""
    if not source:
        forms = "; ".join(f"{form} ({meaning})" for form, meaning in FORMS.items())
        raise InputError(f"unknown reward model {text!r}; known forms: {forms}")
    from stepward.rewards.discriminative import DiscriminativeModel

    return DiscriminativeModel.from_pretrained(source, dtype=dtype, device=device, max_batch_tokens=max_batch_tokens)
