"""Head: what is computed from hidden states at the positions that are read. Kinds of heads belong to the rooms that use them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Head(Protocol):
    """K numbers at every position that is read, in fp32.

    With `shift` 0 the head at position p sees the hidden state of token p. With `shift` 1 it sees the hidden state of token p - 1 and, as `targets`,
    the token at p, as a log-probability needs.
    """

    @property
    def n_outputs(self) -> int: ...

    @property
    def shift(self) -> int: ...

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[N, K] from final-normed hidden states [N, H] (the body's last_hidden_state) and target ids [N] (with shift 0: to be ignored)."""
        ...
