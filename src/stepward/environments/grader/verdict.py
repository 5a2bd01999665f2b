"""Verdict: is an answer equal to the reference? Decided by math-verify; runs inside a worker process only, which its caller can kill."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import math_verify
import math_verify.grader
import math_verify.parser

from stepward.environments.answers import bare_answer, drop_unit_words, last_side

_CONFIG = [math_verify.LatexExtractionConfig(try_extract_without_anchor=False, boxed_match_priority=0)]
_SMALL = 1e-3  # math-verify compares decimals at six places; below this size that is no comparison any more
_exhausted: list[str] = []


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The verdict on a request `{"gold", "answer"}`: the task of the grader's workers."""
    return judge(request["gold"], request["answer"])


def judge(gold: str, answer: str) -> dict[str, Any]:
    """`{"verdict": "right" | "wrong" | "unscored", "reason": text or None}`.

    A parser or simplifier that gave up for lack of memory or stack has shown nothing: that is unscored, not wrong.
    """
    _exhausted.clear()
    try:
        reference = _read(gold)
        if not reference:
            return _unscored(_gave_up() or "the reference answer cannot be read as mathematics", exhausted=bool(_exhausted))
        stated = _read(answer if "=" in gold else last_side(answer))
        if _exhausted:
            return _unscored(str(_gave_up()), exhausted=True)
        if not stated:
            return {"verdict": "wrong", "reason": "the answer cannot be read as mathematics"}
        if math_verify.verify(reference, stated, timeout_seconds=None, raise_on_error=True):
            return {"verdict": "right" if _close(reference[0], stated[0]) else "wrong", "reason": None}
    except (MemoryError, RecursionError) as error:
        _exhausted.append(type(error).__name__)
    except Exception as error:  # whatever a parser raises on hostile text
        return _unscored(f"math-verify failed: {type(error).__name__}", exhausted=False)
    if _exhausted:
        return _unscored(str(_gave_up()), exhausted=True)
    return {"verdict": "wrong", "reason": None}


def prepare() -> None:
    """Watch the steps whose exceptions math-verify swallows, silence its logger and fill its parser's tables."""
    logging.disable(logging.CRITICAL)
    math_verify.parser.latex2sympy = _watched(math_verify.parser.latex2sympy)
    for name in ("simplify", "solve"):
        setattr(math_verify.grader, name, _watched(getattr(math_verify.grader, name)))
    math_verify.grader.safe_sympy_doit = _doit
    judge(r"\frac{\sqrt{3}}{2}+x^2", r"x^2+\frac{1}{2}\sqrt{3}")
    judge("1/3", "0.25")


def _read(text: str) -> list[Any]:
    cleaned = drop_unit_words(bare_answer(text).replace("**", "^"))
    cleaned = re.sub(r"(?<![\\A-Za-z])sqrt\(([^()]*)\)", r"\\sqrt{\1}", cleaned)
    cleaned = re.sub(r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi ", cleaned)
    parsed: list[Any] = math_verify.parse("\\boxed{" + cleaned + "}", _CONFIG, fallback_mode="no_fallback", parsing_timeout=None)
    return parsed


def _close(reference: Any, stated: Any) -> bool:
    if not (getattr(reference, "is_Number", False) and getattr(stated, "is_Number", False)) or reference == stated:
        return True
    return not 0 < abs(reference) < _SMALL or bool(abs(reference - stated) <= _SMALL * abs(reference))


def _watched(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (MemoryError, RecursionError) as error:
            _exhausted.append(type(error).__name__)
            raise

    return call


def _doit(expression: Any) -> Any:
    try:
        return expression.doit()
    except (MemoryError, RecursionError) as error:
        _exhausted.append(type(error).__name__)
    except Exception:
        pass
    return expression


def _gave_up() -> str | None:
    if not _exhausted:
        return None
    return "the answer needs more memory than the grader's limit" if "MemoryError" in _exhausted else "the answer is nested too deeply to be read"


def _unscored(reason: str, *, exhausted: bool) -> dict[str, Any]:
    return {"verdict": "unscored", "reason": reason, "exhausted": exhausted}
