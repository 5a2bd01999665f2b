"""Turns: the text that ends one turn of a dialogue and opens the next, for judges that are shown one step a turn."""

from __future__ import annotations

from typing import Any, NamedTuple

from stepward.core import InputError, Policy
from stepward.engine.journaled import JournaledPolicy


class Turns(NamedTuple):
    """`user` ends the judge's turn and opens the next user's; `assistant` ends that and opens the judge's next."""

    user: str
    assistant: str


PLAIN = Turns("\n\n[Next Paragraph]\n\n", "\n\n[Critique]\n\n")
"""For policies without a chat template: one text, with headings between the turns."""

TURNS = {
    "plain": PLAIN,
    "chatml": Turns("<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    "llama3": Turns("<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
    "deepseek": Turns("<｜end▁of▁sentence｜><｜User｜>", "<｜Assistant｜>"),
}
_MARKS = ("QQ1QQ", "QQ2QQ", "QQ3QQ")


def turns_of(policy: Policy) -> Turns:
    """The turns of a local policy's own chat template; `PLAIN` for raw templates, templates that rewrite earlier turns, and policies that do not show
    theirs."""
    inner = policy.inner if isinstance(policy, JournaledPolicy) else policy
    rendering: Any = getattr(inner, "rendering", None)
    if getattr(rendering, "template", "raw") != "chat":
        return PLAIN
    messages = [{"role": role, "content": mark} for role, mark in zip(("user", "assistant", "user"), _MARKS, strict=True)]
    text = str(rendering.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    if any(text.count(mark) != 1 for mark in _MARKS):
        return PLAIN
    after_judge = text.split(_MARKS[1])[1]
    user, assistant = after_judge.split(_MARKS[2])
    return Turns(user, assistant)


def named_turns(turns: Turns | str | None, policy: Policy) -> Turns:
    """Turns as given, by name, or (None) the policy's own.

    Raises: InputError for an unknown name.
    """
    if turns is None:
        return turns_of(policy)
    if isinstance(turns, str):
        if turns not in TURNS:
            raise InputError(f"unknown turns {turns!r}; choose one of {', '.join(TURNS)}, or give Turns(user=..., assistant=...)")
        return TURNS[turns]
    return turns
