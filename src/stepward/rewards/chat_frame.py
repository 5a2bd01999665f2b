"""ChatFrame and TurnFrame: what a tokenizer's chat template writes around the messages, found with placeholders so that no message can close its frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepward.core import InputError
from stepward.policies.checkpoint import first_line
from stepward.rewards.convention import Convention

_DATE = "26 Jul 2024"  # Llama 3 templates write this where they know no date; today's would make scores change with the day
_WIDE = "\u2003"  # white space that no template writes by itself


@dataclass(frozen=True)
class ChatFrame:
    """One exchange: `head` user message `tail` assistant message `end`. `strips`: the template drops white space around a message of this role."""

    head: str
    tail: str
    end: str
    strips_user: bool
    strips_assistant: bool


@dataclass(frozen=True)
class TurnFrame:
    """Exchanges without end: `head` user `header` assistant `gap` user `header` assistant `gap` ...; `header` ends where the assistant's message begins."""

    head: str
    header: str
    gap: str
    strips_user: bool


def chat_frame(tokenizer: Any, convention: Convention) -> ChatFrame:
    """The frame of one exchange.

    Raises: InputError when the tokenizer has no chat template, or one that does not write each message once and in order.
    """
    user, assistant = _placeholder("user", 0), _placeholder("assistant", 0)
    system = _system(convention)
    ask: list[dict[str, str]] = [*system, {"role": "user", "content": user}]
    if "{solution}" in convention.prompt:
        head, tail = _cut(_render(tokenizer, ask, generation=True), [user])
        return ChatFrame(head, tail, "", _strips(tokenizer, system, "user"), False)
    if convention.opening == "generation":
        head, tail = _cut(_render(tokenizer, ask, generation=True), [user])
        end = ""
        if convention.last == "turn-end":
            end = _cut(_render(tokenizer, [*ask, {"role": "assistant", "content": assistant}]), [user, assistant])[2]
    else:
        head, tail, end = _cut(_render(tokenizer, [*ask, {"role": "assistant", "content": assistant}]), [user, assistant])
    return ChatFrame(head, tail, end, _strips(tokenizer, system, "user"), _strips(tokenizer, system, "assistant"))


def turn_frame(tokenizer: Any, convention: Convention) -> TurnFrame | None:
    """The frame of many exchanges, if k turns are always the beginning of k + 1; None where the template writes earlier turns differently later on.

    Raises: InputError as `chat_frame`.
    """
    rendered = [turns(tokenizer, convention, k) for k in (1, 2, 4)]
    whole = rendered[-1]
    header, gap = whole[1], whole[2]
    steady = all(
        parts[0] == whole[0] and all(part == (gap if index % 2 == 0 else header) for index, part in enumerate(parts[1:-1], start=1)) for parts in rendered
    )
    return TurnFrame(whole[0], header, gap, _strips(tokenizer, _system(convention), "user")) if steady else None


def turns(tokenizer: Any, convention: Convention, k: int) -> list[str]:
    """What the template writes before, between and after the messages of k exchanges: 2k + 1 texts."""
    messages = _system(convention)
    marks = []
    for index in range(k):
        user, assistant = _placeholder("user", index), _placeholder("assistant", index)
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        marks += [user, assistant]
    return _cut(_render(tokenizer, messages), marks)


def strips_users(tokenizer: Any, convention: Convention) -> bool:
    """Whether the template drops white space around the user's messages."""
    return _strips(tokenizer, _system(convention), "user")


def _placeholder(role: str, index: int) -> str:
    return f"\u2063{role}{index}\u2063"  # U+2063 is an invisible separator


def _system(convention: Convention) -> list[dict[str, str]]:
    return [{"role": "system", "content": convention.system}] if convention.system else []


def _render(tokenizer: Any, messages: Sequence[dict[str, str]], *, generation: bool = False) -> str:
    if not tokenizer.chat_template:
        raise InputError("the convention has a chat template but the tokenizer has none; use template='raw', or give the tokenizer its chat template")
    try:
        return str(tokenizer.apply_chat_template(list(messages), add_generation_prompt=generation, tokenize=False, date_string=_DATE))
    except Exception as error:  # a template is a program of the checkpoint's; what it raises is its own affair
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            f"the tokenizer's chat template refuses a conversation of {roles}: {first_line(error)}; choose a convention that it can write"
        ) from error


def _cut(rendered: str, marks: Sequence[str]) -> list[str]:
    parts = []
    rest = rendered
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise InputError("the tokenizer's chat template does not write each message once and in order, so no text can be put in safely; use template='raw'")
        parts.append(before)
    return [*parts, rest]


def _strips(tokenizer: Any, system: Sequence[dict[str, str]], role: str) -> bool:
    texts = {name: _placeholder(name, 0) for name in ("user", "assistant")}
    padded = {**texts, role: f"{_WIDE}{texts[role]}{_WIDE}"}
    names = ("user", "assistant") if role == "assistant" else ("user",)
    rendered = _render(tokenizer, [*system, *({"role": name, "content": padded[name]} for name in names)])
    return _WIDE not in rendered
