"""Retrieval: an index of solved steps, and the tree search that shows the policy what others did at a similar place."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from stepward.core import NO_ERROR, Example, InputError, Node, Trajectory, canonical_json, content_hash
from stepward.data import read_examples
from stepward.search.guided_tree import drawn
from stepward.search.hinted import Hinted
from stepward.search.mcts import MCTS
from stepward.search.workbench import Workbench

_WORD = re.compile(r"\w+")


@runtime_checkable
class Index(Protocol):
    """Where steps are found. `fingerprint` names all that it holds."""

    @property
    def fingerprint(self) -> str: ...

    def nearest(self, query: str, k: int) -> list[str]:
        """At most k different steps, best first, of solutions that stood at a place like this text."""
        ...


@dataclass(frozen=True)
class StepIndex:
    """Steps of solved problems by the text before them: (context, step) pairs, found by BM25 over words in lower case.

    score(q, d) = sum over words w of q of idf(w) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|)), f the count of w in context d and
    idf(w) = ln(1 + (n - n_w + 0.5) / (n_w + 0.5)); k1 = 1.5, b = 0.75. (The Probabilistic Relevance Framework: BM25 and Beyond, 2009.)
    """

    entries: tuple[tuple[str, str], ...] = ()
    k1: float = 1.5
    b: float = 0.75

    @classmethod
    def of(cls, solutions: Iterable[Trajectory]) -> StepIndex:
        """All steps of these solutions, each once a context; pass right ones."""
        pairs = [(context(solution, t), solution.steps[t].text) for solution in solutions for t in range(len(solution))]
        return cls(tuple(dict.fromkeys(pairs)))

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def fingerprint(self) -> str:
        return f"step-index/{content_hash(canonical_json([list(map(list, self.entries)), self.k1, self.b]))[:16]}"

    def nearest(self, query: str, k: int) -> list[str]:
        """The k best different steps, best first; ties go to the first entry; entries that share no word with the query are never among them."""
        scores = self.scores(query)
        ranked = sorted(scores, key=lambda entry: (-scores[entry], entry))
        return list(dict.fromkeys(self.entries[entry][1] for entry in ranked))[: max(0, k)]

    def scores(self, query: str) -> dict[int, float]:
        """score(query, d) of every entry that shares a word with the query, by its number."""
        scores: dict[int, float] = {}
        for word, times in Counter(_words(query)).items():
            held = self._postings.get(word, {})
            idf = math.log(1.0 + (len(self.entries) - len(held) + 0.5) / (len(held) + 0.5))
            for entry, f in held.items():
                longer = 1.0 - self.b + self.b * self._lengths[entry] / self._mean_length
                scores[entry] = scores.get(entry, 0.0) + times * idf * f * (self.k1 + 1.0) / (f + self.k1 * longer)
        return scores

    @cached_property
    def _postings(self) -> dict[str, dict[int, int]]:
        """How often each word stands in which contexts."""
        found: dict[str, dict[int, int]] = {}
        for entry, (text, _) in enumerate(self.entries):
            for word, times in Counter(_words(text)).items():
                found.setdefault(word, {})[entry] = times
        return found

    @cached_property
    def _lengths(self) -> list[int]:
        return [len(_words(text)) for text, _ in self.entries]

    @cached_property
    def _mean_length(self) -> float:
        return max(1.0, sum(self._lengths) / max(1, len(self._lengths)))


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """The index of the right solutions in a file of examples (any format that `data.read_examples` knows): by their outcome, else by labels without an error.

    Read when it is first asked. Raises, then: InputError for a missing file or one without a right solution; FormatError.
    """

    path: str

    @cached_property
    def steps(self) -> StepIndex:
        found = StepIndex.of(example.trajectory for example in read_examples(self.path) if _right(example))
        if not found:
            raise InputError(f"{self.path} has no solution that is known to be right: rows need an outcome of 1, or labels without an error")
        return found

    @property
    def fingerprint(self) -> str:
        return self.steps.fingerprint

    def nearest(self, query: str, k: int) -> list[str]:
        return self.steps.nearest(query, k)


def _right(example: Example) -> bool:
    outcome = example.trajectory.outcome
    if outcome is not None and outcome.scored:
        return outcome.correct is True
    return example.labels is not None and example.labels.first_error == NO_ERROR


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def context(solution: Trajectory, n_steps: int) -> str:
    """What stands before step number `n_steps`: the problem and the steps so far."""
    return "\n".join([solution.problem.prompt, *(step.text for step in solution.steps[:n_steps])])


@dataclass(frozen=True, kw_only=True)
class RetrievalMCTS(MCTS):
    """MCTS whose expansions also draw a child for each of `retrieve` steps that the index finds for the prefix, shown to the policy after the prompt.

    Children with a retrieved step have the kind "retrieve"; those without are drawn as plain MCTS does, so that an empty index, or none, is plain MCTS.
    `hint` is what the policy reads, {step} being the step. Everything else is `MCTS`. Cost: that of MCTS with expansions + retrieve children, and longer
    prompts. An index that holds the problem's own solution shows its answer: leave the problems of a test out of it.
    (Enhancing Test-Time Scaling of Large Language Models with Hierarchical Retrieval-Augmented MCTS, 2025.) No public code: retrieve 1, BM25 over words and
    the hint's words are ours. Difference: the coarse half, similar solved problems in the prompt, is the policy's prompt and not part of the search.
    """

    index: Index | None = None
    retrieve: int = 1
    hint: str = "A step from the solution of a similar problem, at a similar place:\n{step}"

    name = "retrieval-mcts"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retrieve < 0 or "{step}" not in self.hint:
            raise InputError(f"RetrievalMCTS needs retrieve >= 0 and a hint with {{step}} in it, got {self.retrieve} and {self.hint!r}")

    async def propose(self, bench: Workbench, node: Node, n: int) -> list[Node]:
        children = await super().propose(bench, node, n)
        found = [] if self.index is None else self.index.nearest(context(node.trajectory, len(node.trajectory)), self.retrieve)
        for step in found:
            shown = Hinted(self.policy, self.hint.replace("{step}", step))
            children += await drawn(bench, node, 1, policy=shown, kind="retrieve")
        return children
