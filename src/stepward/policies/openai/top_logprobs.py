"""Top log-probabilities: what a server says about the likeliest next tokens, and how likely given texts are by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_NOT_TOLD = -9999.0


def read_top_logprobs(answer: Mapping[str, Any]) -> dict[str, float]:
    """Text and natural-log probability of the likeliest tokens at the first position written; empty where the server does not tell. Never raises.

    Tokens at -9999 are left out: some servers say so of tokens whose probability they do not tell.
    """
    rows = answer.get("choices")
    row = rows[0] if isinstance(rows, Sequence) and rows else None
    block = row.get("logprobs") if isinstance(row, Mapping) else None
    if not isinstance(block, Mapping):
        return {}
    content, top = block.get("content"), block.get("top_logprobs")
    if isinstance(content, Sequence) and content and isinstance(content[0], Mapping):  # chat
        listed = content[0].get("top_logprobs")
        items = [(item.get("token"), item.get("logprob")) for item in listed if isinstance(item, Mapping)] if isinstance(listed, Sequence) else []
    elif isinstance(top, Sequence) and top and isinstance(top[0], Mapping):  # completions
        items = list(top[0].items())
    else:
        return {}
    return {token: float(value) for token, value in items if isinstance(token, str) and isinstance(value, int | float) and value > _NOT_TOLD}


def choices_among(top: Mapping[str, float], choices: Sequence[str]) -> tuple[float, ...]:
    """Natural-log probability of every choice, shape [C], by the likeliest tokens alone; NaN for all of them when none is listed.

    A token speaks for a choice when it spells it out, whatever punctuation follows in the same token ("Yes}"); where no token does, tokens that begin it and
    no other choice ("in" for "incorrect") speak for it. Probabilities of several such tokens are added. A choice without any has at most the smallest
    probability listed, and takes that (GenPRM: Scaling Test-Time Compute of Process Reward Models via Generative Reasoning, 2025, does the same); where none
    of the others is likelier than that either, such as in a list of one token, nothing is told apart: NaN for all of them.
    """
    found = [_spoken_for(top, choice, [other for other in choices if other != choice]) for choice in choices]
    least = min(top.values(), default=-math.inf)
    if any(map(math.isinf, found)) and max(found) <= least:
        return (math.nan,) * len(choices)
    return tuple(least if math.isinf(value) else value for value in found)


def _spoken_for(top: Mapping[str, float], choice: str, others: Sequence[str]) -> float:
    whole = [value for token, value in top.items() if token.startswith(choice) and not token[len(choice) : len(choice) + 1].isalnum()]
    begun = [value for token, value in top.items() if token and choice.startswith(token) and not any(other.startswith(token) for other in others)]
    values = [value for value in whole or begun if not math.isinf(value)]
    if not values:
        return -math.inf
    largest = max(values)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))
