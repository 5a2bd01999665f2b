"""References of the families that read the language model's logits of two verdict tokens at a marker."""

from __future__ import annotations

from collections.abc import Sequence

from tests.rewards.references.checkpoint import Checkpoint
from tests.rewards.references.text import numbered

MED_SYSTEM = (
    "You are an evaluator assessing the logicality and validity of the reasoning in each step of the given explanation. "
    "In order to support the evaluation, the question and the explanation are provided. "
    "If the reasoning contains errors, output - after that step. If the reasoning in a step is logical and valid, output + after that step."
)


def _pair(checkpoint: Checkpoint, ids: list[int], reads: Sequence[int], good: int, bad: int) -> list[float]:
    return [float(logits[[good, bad]].softmax(-1)[0]) for logits in checkpoint.logits(ids, reads)]


def math_shepherd(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """Numbered steps, each with " ки", on lines of their own; P("+") of the pieces that "+ -" is made of."""
    text, ends = f"{problem} ", []
    for index, step in enumerate(steps, start=1):
        text += ("\n" if ends else "") + numbered(step.strip(), index) + " ки"
        ends.append(len(text))
    ids, reads = checkpoint.tokenizer.ids_and_reads(text, ends, bos=True)
    good, bad = checkpoint.tokenizer.ids("+ -")[-2:]
    return _pair(checkpoint, ids, reads, good, bad)


def er_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """As Math-Shepherd without the line breaks between steps."""
    text, ends = f"{problem} ", []
    for index, step in enumerate(steps, start=1):
        text += numbered(step.strip(), index) + " ки"
        ends.append(len(text))
    ids, reads = checkpoint.tokenizer.ids_and_reads(text, ends, bos=True)
    return _pair(checkpoint, ids, reads, checkpoint.tokenizer.ids(" +")[-1], checkpoint.tokenizer.ids(" -")[-1])


def math_psa(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """Steps end in a space and five newlines, the next begins after a space; P(" +") of " +" and " -"."""
    text, ends = f"{problem} ", []
    for index, step in enumerate(steps, start=1):
        text += (" " if ends else "") + numbered(step.strip(), index) + " \n\n\n\n\n"
        ends.append(len(text))
    ids, reads = checkpoint.tokenizer.ids_and_reads(text, ends, bos=True)
    good, bad = checkpoint.tokenizer.ids(" + -")
    return _pair(checkpoint, ids, reads, good, bad)


def versa_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """Steps end in a space and four newlines; P("+") of "-" and "+" without spaces."""
    text, ends = f"{problem.strip()} \n\n", []
    for step in steps:
        text += f"{step.strip()} \n\n\n\n"
        ends.append(len(text))
    ids, reads = checkpoint.tokenizer.ids_and_reads(text, ends, bos=True)
    return _pair(checkpoint, ids, reads, checkpoint.tokenizer.ids("+")[-1], checkpoint.tokenizer.ids("-")[-1])


def med_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """The solution in the user's turn on one line, the control token " ки" after every step; the tokenizer puts a second BOS in front of the template's."""
    tokenizer = checkpoint.tokenizer
    marker = tokenizer.name(" ки")
    solution = " ".join(step.replace("\n", " ").strip() + marker for step in steps)
    text = tokenizer.render([("system", MED_SYSTEM), ("user", f"Question: {problem}\n\nExplanation: {solution}")], generation=True)
    ids = tokenizer.ids(text, bos=True)
    reads = [index for index, token in enumerate(ids) if token == tokenizer.id(" ки")]
    return _pair(checkpoint, ids, reads, tokenizer.ids(" +")[0], tokenizer.ids(" -")[0])
