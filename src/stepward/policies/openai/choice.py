"""Choice: one text that a server wrote, as far as the server tells: its tokens, and why it stopped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepward.core import RequestRetryable, Usage

_STOP_NAMES = ("stop_reason", "matched_stop", "stopping_word")  # vLLM, SGLang, llama.cpp


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`reason`: "stop" or "length". `stop`: the stop string that ended it, "" for end of text, None where the server does not tell which.

    `starts` and `logprobs`: the character of `text` + `stop` at which every token starts, and its natural-log probability; empty where the server
    does not tell, `starts` also where the tokens' texts do not make up the text (malformed UTF-8 is repaired differently in the two).
    """

    text: str
    reason: str
    stop: str | None
    starts: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


def read_choices(answer: Mapping[str, Any], *, most: int) -> list[Choice]:
    """The choices in order of their index, at most `most` of them.

    Raises: RequestRetryable for a body that does not have the agreed form.
    """
    rows = answer.get("choices")
    if not isinstance(rows, list) or not rows:
        raise RequestRetryable(f"the server's answer has no choices: {str(answer)[:300]}")
    try:
        return [_read(row) for row in sorted(rows, key=lambda row: row.get("index", 0))[:most]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RequestRetryable(f"the server's answer has a malformed choice ({type(error).__name__}: {error}): {str(rows)[:300]}") from error


def read_usage(answer: Mapping[str, Any]) -> Usage:
    """Tokens as the server counts them; what it does not say stays 0, the call is counted."""
    block = answer.get("usage")
    if not isinstance(block, Mapping):
        return Usage(calls=1)
    details = block.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0
    prompt = _count(block.get("prompt_tokens"))
    return Usage(policy_tokens=_count(block.get("completion_tokens")), policy_prefill=max(0, prompt - cached), policy_cached=min(cached, prompt), calls=1)


def tokens_until(choice: Choice, n_characters: int) -> int:
    """How many tokens start before this character of the text."""
    return bisect_left(choice.starts, n_characters)


def token_starts(text: str, pieces: Sequence[str]) -> tuple[int, ...] | None:
    """The character of the text at which each token starts, from the tokens' own texts; None where they do not make up the text.

    Servers leave out of a token's text the bytes of a character that later tokens complete, or that none does (U+FFFD in the text), and some the white
    space that it begins with. What is written after the end of the text, such as the rest of a stop string's last token, starts at the end.
    """
    at, starts = 0, []
    for piece in pieces:
        starts.append(at)
        begin = at
        while not (text.startswith(piece, begin) or piece.startswith(text[begin:])):
            if not (text[begin] == "\ufffd" or text[begin].isspace()):
                return None
            begin += 1
        at = min(begin + len(piece), len(text))
    return tuple(starts)


def _read(row: Mapping[str, Any]) -> Choice:
    text = row["text"] if "text" in row else row["message"]["content"] or ""
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}")
    reason = row["finish_reason"]
    if reason not in ("stop", "length", "eos"):
        raise ValueError(f"finish_reason {reason!r}")
    stop = _stop(row)
    pieces, logprobs = _tokens(row.get("logprobs"))
    starts = token_starts(text if not stop or text.endswith(stop) else text + stop, pieces)
    return Choice(text=text, reason="length" if reason == "length" else "stop", stop=stop, starts=starts or (), logprobs=logprobs)


def _stop(row: Mapping[str, Any]) -> str | None:
    if row["finish_reason"] == "eos":
        return ""
    for name in _STOP_NAMES:
        if name in row:
            return row[name] if isinstance(row[name], str) else ""  # null and token ids: end of text
    return None


def _tokens(block: Any) -> tuple[tuple[str, ...], tuple[float, ...]]:
    if not isinstance(block, Mapping):
        return (), ()
    if isinstance(block.get("content"), Sequence):  # chat
        return tuple(str(item["token"]) for item in block["content"]), tuple(float(item["logprob"]) for item in block["content"])
    if isinstance(block.get("tokens"), Sequence) and isinstance(block.get("token_logprobs"), Sequence):  # completions
        return tuple(map(str, block["tokens"])), tuple(float(value) for value in block["token_logprobs"])
    return (), ()


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
