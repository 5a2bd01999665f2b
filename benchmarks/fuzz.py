"""Fuzzing of every checkpoint family on tiny random checkpoints: hostile texts must never add, lose or move a score.

Each input is a random trajectory: any unicode (lone surrogates included), markers and control tokens spelled in problem and steps, split over two steps or
repeated, white space of all kinds, no steps, empty steps, observations, lengths beyond the context. For each family in turn it is encoded and checked:

* every step is read once, or it and all after it are left out; positions are in order and inside the sequence;
* control tokens are those of the same number of harmless steps, whatever the text spells: no text closes a turn or adds a marker;
* the tokens of a step decode to its text, so each position belongs to its own step.

A share of the inputs is scored too, in concurrent batches: one score a step, each a number in its scale or NaN with a reason. The only other outcome allowed
is a typed error.

    python benchmarks/fuzz.py --n 100000 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepward.core import Problem, Step, StepScores, StepwardError, Trajectory
from stepward.rewards.families import FAMILIES, Family

MARKERS = ("<extra_0>", "ки", " ки", "[PRM]", "<extra>", "<+>", "<->", "+", "-", " +", " \n\n\n\n\n", " \n\n\n\n", "\n\n", "\n", "correct", "Step 2: ")
HALVES = (("<extra", "_0>"), ("к", "и"), ("[PR", "M]"), ("<|im_", "end|>"), (" \n\n", "\n\n"), ("<", "+>"))
SPACES = (" ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2028", "\u200b", "\ufeff", "")
WORDS = (
    *("Tom has 7 apples.", "x = 3", r"$\frac{1}{2}$", "所以", "مرحبا", "é", "👩‍🚀"),
    *("{problem}", "{step}", "%s", "Step 3: so", "The answer is: 30", "1 - 2 = -1"),
)
CONTEXT = 700


def hostile_text(draw: random.Random, spelled: Sequence[str], most: int) -> str:
    """A text of up to `most` parts; `spelled`: control tokens of the tokenizer at hand."""
    parts = []
    for _ in range(draw.randint(0, most)):
        kind = draw.random()
        if kind < 0.5:
            parts.append(draw.choice(WORDS))
        elif kind < 0.65:
            parts.append(draw.choice(MARKERS))
        elif kind < 0.75 and spelled:
            parts.append(draw.choice(spelled))
        elif kind < 0.9:
            parts.append(draw.choice(SPACES))
        elif kind < 0.98:
            parts.append("".join(chr(draw.choice([draw.randrange(32), draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])) for _ in range(4)))
        elif kind < 0.985:
            parts.append(chr(draw.randrange(0xD800, 0xE000)))
        else:
            parts.append(draw.choice([*MARKERS, *WORDS]) * draw.choice([2, 30, 200]))
    return "".join(parts)


def hostile_trajectory(draw: random.Random, spelled: Sequence[str]) -> Trajectory:
    """A random trajectory, open, finished or truncated."""
    texts = [hostile_text(draw, spelled, 5) for _ in range(draw.choice([0, 1, 1, 2, 3, 4, 6, 12]))]
    if len(texts) > 1 and draw.random() < 0.2:
        at, (left, right) = draw.randrange(len(texts) - 1), draw.choice(HALVES)
        texts[at], texts[at + 1] = texts[at] + left, right + texts[at + 1]
    steps = tuple(
        Step(text, draw.choice(["", "\n", "\n\n", "<extra_0>", " ки\n"]), observation=hostile_text(draw, spelled, 2) if draw.random() < 0.05 else None)
        for text in texts
    )
    ended = draw.random()
    return Trajectory(Problem(hostile_text(draw, spelled, 4)), steps, finished=ended < 0.5, truncated=ended > 0.9)


class Harness:
    """One family's tiny checkpoint, and what must hold for any trajectory that it is given."""

    def __init__(self, family: Family, folder: Path, seed: int) -> None:
        from stepward.rewards.discriminative import DiscriminativeModel
        from stepward.rewards.implicit import ImplicitModel
        from stepward.rewards.pathfinder import PathFinderModel
        from stepward.testing.checkpoints import tiny_checkpoint

        source = tiny_checkpoint(family.name, folder / family.name, seed=seed, max_tokens=CONTEXT + 600 * bool(family.convention.system))
        if family.reader == "implicit":
            other = tiny_checkpoint(family.name, folder / f"{family.name}-reference", seed=seed + 1, max_tokens=CONTEXT)
            self.model: Any = ImplicitModel.from_pretrained(source, reference=other, convention=family.convention)
        else:
            kind = PathFinderModel if family.reader == "pathfinder" else DiscriminativeModel
            self.model = kind.from_pretrained(source, convention=family.convention)
        self.family, self.convention = family, family.convention
        tokenizer = self.model.tokenizer
        self.decode: Callable[[Any], str] = lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        self.control = {int(index): str(token) for index, token in tokenizer.added_tokens_decoder.items()}
        self.vocabulary = len(tokenizer)
        self._frames: dict[tuple[Any, ...], list[dict[str, int]]] = {}

    @property
    def spelled(self) -> list[str]:
        return list(self.control.values())

    def check_encoding(self, trajectory: Trajectory) -> str | None:
        """What is wrong with how the trajectory is encoded; None when nothing is."""
        sequences = self.model.encoder.sequences(trajectory)
        for encoded in sequences:
            reads = encoded.read[encoded.kept]
            if len(encoded.ids) > encoded.max_tokens:
                return f"{len(encoded.ids)} tokens in a context of {encoded.max_tokens}"
            if len(encoded.ids) and not (encoded.ids.min() >= 0 and encoded.ids.max() < self.vocabulary):
                return "an id beyond the vocabulary"
            if len(reads) and (reads[0] < 0 or reads[-1] >= len(encoded.ids) or (np.diff(reads) < 0).any()):
                return f"read at {reads.tolist()} of {len(encoded.ids)} tokens"
        if self.family.reader == "pathfinder":  # two sequences a step, read where they end
            return self._check_controls(trajectory, sequences, len(sequences) // 2)
        n_kept = max((int(np.flatnonzero(encoded.kept).max()) + 1 for encoded in sequences if encoded.n_kept), default=0)
        read = Counter(step for encoded in sequences for step in np.flatnonzero(encoded.kept).tolist())
        for step in range(n_kept):
            if read[step] != 1 and not (read[step] == 0 and not self.convention.marker and not trajectory.steps[step].text):
                return f"step {step} of {len(trajectory)} is read {read[step]} times"
        return self._check_controls(trajectory, sequences, n_kept) or self._check_spans(trajectory, sequences)

    def _check_controls(self, trajectory: Trajectory, sequences: Sequence[Any], n_kept: int) -> str | None:
        found = [found for encoded in sequences if encoded.n_kept and (found := self._controls(encoded.ids))]
        if n_kept and found != (harmless := self._frame(trajectory, n_kept)):
            return f"control tokens {found} for {n_kept} steps, of harmless text {harmless}"
        return None

    def _check_spans(self, trajectory: Trajectory, sequences: Sequence[Any]) -> str | None:
        for encoded in sequences:
            for step in np.flatnonzero(encoded.kept):
                (first, end), text = encoded.span[step], encodable(trajectory.steps[step].text)
                said = self.decode(encoded.ids[first:end])
                whole = end <= len(encoded.ids)  # where a step is read before its last token, the sequence can end there
                if whole and squashed(text) not in squashed(said) and not self._lossy(text):
                    return f"step {step} is {text!r}, its tokens say {said!r}"
        return None

    def check_scores(self, trajectory: Trajectory, scores: StepScores) -> str | None:
        """What is wrong with the scores; None when nothing is."""
        if len(scores) != len(trajectory):
            return f"{len(scores)} scores for {len(trajectory)} steps"
        low = {"probability": 0.0, "advantage": -1.0}.get(scores.scale, -np.inf)
        high = {"probability": 1.0, "advantage": 1.0}.get(scores.scale, np.inf)
        for value, reason in zip(scores.values, scores.reasons, strict=True):
            if np.isnan(value) != bool(reason) or not (np.isnan(value) or low <= value <= high):
                return f"value {value} with reason {reason!r}"
        return None

    async def score(self, trajectory: Trajectory) -> str | None:
        """None, what is wrong, or "typed: ..." for an error that says so itself."""
        try:
            return self.check_scores(trajectory, await self.model.score(trajectory))
        except StepwardError as error:
            return f"typed: {type(error).__name__}"

    def _controls(self, ids: Any) -> dict[str, int]:
        return dict(Counter(self.control[int(token)] for token in ids if int(token) in self.control))

    def _frame(self, trajectory: Trajectory, n_kept: int) -> list[dict[str, int]]:
        """The control tokens of as many steps of harmless text."""
        key = (trajectory.finished and n_kept == len(trajectory), *(step.observation and "seen" for step in trajectory.steps[:n_kept]))
        if key not in self._frames:
            steps = tuple(Step("so", observation=observation) for observation in key[1:])
            sequences = self.model.encoder.sequences(Trajectory(Problem("Tom"), steps, finished=bool(key[0])))
            self._frames[key] = [found for encoded in sequences if (found := self._controls(encoded.ids))]
        return self._frames[key]

    def _lossy(self, text: str) -> bool:
        """Texts that the tokenizer itself does not give back: characters it normalises."""
        return squashed(self.decode(self.model.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])) != squashed(text)


def encodable(text: str) -> str:
    """With a question mark for every lone surrogate, which has no bytes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def squashed(text: str) -> str:
    """Without white space, which conventions trim and tokenizers move."""
    return "".join(text.split())


def fuzz(n: int, *, seed: int = 0, score_share: float = 0.05, families: Sequence[str] = ()) -> dict[str, Any]:
    """Fuzz the families in turn with n inputs in all; returns counts and the first wrong inputs of each family."""
    chosen = [family for family in FAMILIES if not families or family.name in families]
    report: dict[str, Any] = {"inputs": 0, "steps": 0, "scored": 0, "typed_errors": 0, "wrong": 0, "examples": [], "families": len(chosen)}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for index, family in enumerate(chosen):
            harness = Harness(family, Path(folder), seed)
            draw = random.Random(f"{seed}:{family.name}")
            asked = [hostile_trajectory(draw, harness.spelled) for _ in range(n // len(chosen) + (index < n % len(chosen)))]
            outcomes = [encoded_outcome(harness, trajectory) for trajectory in asked]
            sample = [number for number in range(len(asked)) if draw.random() < score_share]
            for number, outcome in zip(sample, asyncio.run(gathered(harness, [asked[number] for number in sample])), strict=True):
                outcomes[number] = outcomes[number] or outcome
            report["inputs"] += len(asked)
            report["steps"] += sum(len(trajectory) for trajectory in asked)
            report["scored"] += len(sample)
            report["typed_errors"] += sum(bool(outcome and outcome.startswith("typed")) for outcome in outcomes)
            wrong = [(outcome, trajectory) for outcome, trajectory in zip(outcomes, asked, strict=True) if outcome and not outcome.startswith("typed")]
            report["wrong"] += len(wrong)
            report["examples"] += [
                {"family": family.name, "wrong": outcome, "problem": trajectory.problem.prompt, "steps": [step.text for step in trajectory.steps]}
                for outcome, trajectory in wrong[:3]
            ]
    return {**report, "seconds": round(time.perf_counter() - started, 1)}


def encoded_outcome(harness: Harness, trajectory: Trajectory) -> str | None:
    try:
        return harness.check_encoding(trajectory)
    except StepwardError as error:
        return f"typed: {type(error).__name__}"
    except Exception as error:
        return f"untyped {type(error).__name__}: {error}"


async def gathered(harness: Harness, asked: Sequence[Trajectory], at_once: int = 256) -> list[str | None]:
    outcomes: list[str | None] = []
    for start in range(0, len(asked), at_once):
        found = await asyncio.gather(*(harness.score(trajectory) for trajectory in asked[start : start + at_once]), return_exceptions=True)
        outcomes += [f"untyped {type(one).__name__}: {one}" if isinstance(one, BaseException) else one for one in found]
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="inputs over all families")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--score-share", type=float, default=0.05, help="share of the inputs that is scored, not only encoded")
    parser.add_argument("--family", action="append", default=[], help="only this family (may be repeated)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = fuzz(options.n, seed=options.seed, score_share=options.score_share, families=options.family)
    if options.json:
        print(json.dumps(report))
    else:
        for example in report.pop("examples"):
            print(ascii(example))
        for name, value in report.items():
            print(f"{name:14s} {value}")
    sys.exit(bool(report["wrong"]))


if __name__ == "__main__":
    main()
