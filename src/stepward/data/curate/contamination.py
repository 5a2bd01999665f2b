"""Contamination: training problems that are evaluation problems in other clothes, found by the n-grams of words that they share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepward.core import Example, InputError
from stepward.data.curate.filtered import Filtered

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Lower-case words and numbers; punctuation and symbols are left out."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class Match:
    """`share` of the text's n-grams that the evaluation text number `index` has too; 1.0 when the whole texts are equal."""

    index: int
    share: float


class Overlap:
    """The n-grams of a set of evaluation texts.

    A text matches one of them with share = |its distinct n-grams that the other has| / |its distinct n-grams|. Texts of fewer than n words match only
    a text with the same words. The usual n is 13 for documents (Language Models are Few-Shot Learners, 2020) and 8 to 10 for short problems.
    """

    def __init__(self, texts: Iterable[str], n: int = 8) -> None:
        if n < 1:
            raise InputError(f"n must be at least 1, got {n}")
        self.n = n
        self._grams: dict[tuple[str, ...], set[int]] = {}
        for index, text in enumerate(texts):
            for gram in self._of(words(text)):
                self._grams.setdefault(gram, set()).add(index)

    def best(self, text: str) -> Match | None:
        """The evaluation text that shares most, the first of equals; None when none shares anything."""
        grams = self._of(words(text))
        shared: dict[int, int] = {}
        for gram in grams:
            for index in self._grams.get(gram, ()):
                shared[index] = shared.get(index, 0) + 1
        if not shared:
            return None
        index = min(shared, key=lambda index: (-shared[index], index))
        return Match(index, shared[index] / len(grams))

    def _of(self, found: Sequence[str]) -> set[tuple[str, ...]]:
        if len(found) < self.n:
            return {("", *found)} if found else set()  # never equal to a gram of n words
        return {tuple(found[start : start + self.n]) for start in range(len(found) - self.n + 1)}


def decontaminate(examples: Sequence[Example], evaluation: Iterable[str], *, n: int = 8, threshold: float = 0.5) -> Filtered:
    """The examples whose problem shares less than `threshold` of its n-grams with every evaluation problem.

    Only problems are compared: solutions of different problems share phrases. Two problems with other numbers in the same sentences share the grams
    without numbers; a low threshold takes them for the same, a threshold of 1 asks for all grams.

    Raises: InputError for a threshold outside (0, 1] or n below 1.
    """
    if not 0.0 < threshold <= 1.0:
        raise InputError(f"threshold must lie in (0, 1], got {threshold!r}")
    overlap = Overlap(evaluation, n)
    verdicts: dict[str, bool] = {}
    for example in examples:
        prompt = example.trajectory.problem.prompt
        if prompt not in verdicts:
            match = overlap.best(prompt)
            verdicts[prompt] = match is not None and match.share >= threshold
    kept = [example for example in examples if not verdicts[example.trajectory.problem.prompt]]
    counts = {"examples": len(examples), "dropped": len(examples) - len(kept), "problems": len(verdicts), "problems_dropped": sum(verdicts.values())}
    return Filtered(kept, "contamination", {"n": n, "threshold": threshold}, counts)
