"""Family: published checkpoints that are read alike, and how to tell them from others. The families themselves are in the files beside this one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from stepward.rewards.convention import Convention

ReadBy = Literal["one-pass", "implicit", "pathfinder"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A record of the registry.

    A checkpoint belongs to it when all that is given holds: its config names one of `architectures`; its head has `n_labels` labels; its tokenizer has each of
    `pieces` as one vocabulary entry; and its weight files hold `head_weights`. Nothing is read from a path or name. `distinctive`: these say by
    themselves that it is a checkpoint of this family, and not a plain language model of the same architecture; otherwise one of the `published` hub ids,
    spelled exactly, decides. `reader`: which of stepward's models scores it. `source` is the paper, `code` what the authors' own code does where it matters,
    `traps` what goes wrong elsewhere.
    """

    name: str
    convention: Convention
    source: str
    code: str
    architectures: tuple[str, ...]
    head_weights: tuple[str, ...] = ()
    pieces: tuple[str, ...] = ()
    n_labels: int | None = None
    distinctive: bool = False
    published: tuple[str, ...] = ()
    reader: ReadBy = "one-pass"
    traps: tuple[str, ...] = ()

    def matches(self, config: Any, tokenizer: Any, weights: Collection[str] | None = None) -> bool:
        """Whether a checkpoint with this config and tokenizer can be one of the family; `weights`: the parameter names in its files, where they are known."""
        if not set(self.architectures) & set(getattr(config, "architectures", None) or ()):
            return False
        if self.n_labels is not None and config.num_labels != self.n_labels:
            return False
        if weights is not None and not set(self.head_weights) <= {plain_name(name) for name in weights}:
            return False
        return not lacking(tokenizer, self.pieces)


def lacking(tokenizer: Any, pieces: Collection[str]) -> list[str]:
    """The pieces that are not one entry of the vocabulary."""
    known = tokenizer.get_vocab() if pieces else {}
    return [piece for piece in pieces if piece not in known]


def plain_name(name: str) -> str:
    """A parameter's name without the prefix that value-head wrappers put before it."""
    return name.removeprefix("pretrained_model.")
