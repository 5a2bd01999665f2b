"""What the scoring benchmark scores: a random Qwen2-shaped process reward model saved to a folder, and two workloads of exact sizes in tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stepward.core import Problem, Step, Trajectory
from stepward.rewards.convention import CONFIG_KEY, Convention

MARKER = "<extra_0>"
_N_WORDS = 4000
SHAPES = {
    "tiny": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    "small": {"hidden_size": 512, "intermediate_size": 2816, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2},
    "medium": {"hidden_size": 640, "intermediate_size": 3456, "num_hidden_layers": 8, "num_attention_heads": 10, "num_key_value_heads": 2},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2},
}  # parameters without the embedding: 0.5, 29, 61 and 1310 million


@dataclass(frozen=True)
class Workload:
    """`levels`: what is scored one call after the other while a search runs; `solutions`: the fewest trajectories that hold every step of it."""

    name: str
    levels: tuple[tuple[Trajectory, ...], ...]
    solutions: tuple[Trajectory, ...]


@dataclass(frozen=True)
class Counts:
    """Tokens of a set of sequences, one by one and with every common prefix counted once; `context`: the sum over distinct tokens of the tokens each sees."""

    total: int
    distinct: int
    context: int

    @property
    def duplication(self) -> float:
        return self.total / self.distinct


def save_model(folder: Path, size: str, *, vocabulary: int = _N_WORDS + 1, seed: int = 0) -> None:
    """A Qwen2ForProcessRewardModel with random weights, and a tokenizer that makes one token of each word and of the step marker."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

    backend = Tokenizer(models.WordLevel({f"w{index}": index for index in range(_N_WORDS)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0", eos_token="w1", pad_token="w1")
    tokenizer.add_special_tokens({"additional_special_tokens": [MARKER]})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen2Config(vocab_size=vocabulary, max_position_embeddings=4096, tie_word_embeddings=False, eos_token_id=1, **SHAPES[size])
    body = Qwen2Model(config)
    hidden = config.hidden_size
    tensors = {f"model.{name}": weights.contiguous() for name, weights in body.state_dict().items()}
    for name, layer in (("score.0", torch.nn.Linear(hidden, hidden)), ("score.2", torch.nn.Linear(hidden, 2))):
        torch.nn.init.normal_(layer.weight, std=2.0 / hidden**0.5)
        tensors |= {f"{name}.weight": layer.weight.detach(), f"{name}.bias": layer.bias.detach()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    convention = Convention(name="benchmark", prompt="{problem}", marker=MARKER, bos=0, max_tokens=4096)
    record = config.to_dict() | {"architectures": ["Qwen2ForProcessRewardModel"], "num_labels": 2, "dtype": "float32", CONFIG_KEY: convention.to_json()}
    (folder / "config.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")


def candidates(*, problems: int, per_problem: int, prompt: int, steps: int, step_tokens: int) -> Workload:
    """Finished solutions that share nothing but their problem's prompt."""
    draw = random.Random(1)
    solutions = []
    for _ in range(problems):
        problem = Problem(_words(draw, prompt))
        solutions += [Trajectory(problem, tuple(_step(draw, step_tokens) for _ in range(steps)), finished=True) for _ in range(per_problem)]
    return Workload("candidates", (tuple(solutions),), tuple(solutions))


def beam(*, problems: int, prompt: int, width: int, expansion: int, depth: int, step_tokens: int) -> Workload:
    """All candidates that a step-level beam search scored: at each step, `expansion` continuations of each of the `width` prefixes that were kept.

    Which are kept is drawn at random, step lengths evenly between half and one and a half times `step_tokens`. Problems are searched at the same time.
    """
    draw = random.Random(2)
    frontiers = [[Trajectory(Problem(_words(draw, prompt)))] * width for _ in range(problems)]
    levels: list[tuple[Trajectory, ...]] = []
    solutions: list[Trajectory] = []
    for step in range(depth):
        level: list[Trajectory] = []
        for index, frontier in enumerate(frontiers):
            children = [parent.extend(_step(draw, draw.randint(step_tokens // 2, 3 * step_tokens // 2))) for parent in frontier for _ in range(expansion)]
            kept = set(draw.sample(range(len(children)), width)) if step < depth - 1 else set()
            solutions += [child for place, child in enumerate(children) if place not in kept]
            frontiers[index] = [children[place] for place in sorted(kept)]
            level += children
        levels.append(tuple(level))
    return Workload("beam", tuple(levels), tuple(solutions))


def count(sequences: Iterable[NDArray[np.int64]]) -> Counts:
    """Tokens of the sequences, by a walk over the sorted ones: each adds what it does not share with the one before it."""
    rows = sorted(tuple(sequence.tolist()) for sequence in sequences)
    total = distinct = context = 0
    before: Sequence[int] = ()
    for row in rows:
        shared = next((place for place, (left, right) in enumerate(zip(row, before, strict=False)) if left != right), min(len(row), len(before)))
        total += len(row)
        distinct += len(row) - shared
        context += (len(row) * (len(row) + 1) - shared * (shared + 1)) // 2
        before = row
    return Counts(total, distinct, context)


def _words(draw: random.Random, n: int) -> str:
    return " ".join(f"w{draw.randrange(2, _N_WORDS)}" for _ in range(n))


def _step(draw: random.Random, n_tokens: int) -> Step:
    """`n_tokens` tokens with the marker."""
    return Step(_words(draw, n_tokens - 1))
