"""LogProb: the head that reads a language model's probability of a token, and the spread of what could come in its place. The body is the reader's business."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stepward.engine.reader.linear import linear

MAX_LOGITS = 1 << 25  # numbers of [N, V] tables that exist at the same time: 128 MiB in fp32


def scale_and_softcap(config: Any) -> tuple[float, float | None]:
    """What a transformers model with this configuration does to its logits: z * scale, then softcap * tanh(z / softcap) unless it is None."""
    text = config.get_text_config()
    scale = float(getattr(text, "logit_scale", None) or 1.0) / float(getattr(text, "logits_scaling", None) or 1.0)
    return scale, getattr(text, "final_logit_softcapping", None)


class LogProb:
    """log p(token p | tokens before p) under the whole vocabulary: [N, 1] from the hidden states of tokens p - 1 and the ids at p.

    With `entropy` a second column, [N, 2], holds the entropy (nats) of the distribution that the token was drawn from: H = -sum_v p(v) log p(v).

    The output layer multiplies in its own number format; the log-softmax is in fp32. Rows go through in chunks of at most `MAX_LOGITS` logits, so that memory
    does not grow with N. `scale` and `softcap` are what some language models do to their logits: z * scale, then softcap * tanh(z / softcap).
    """

    shift = 1

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, scale: float = 1.0, softcap: float | None = None, entropy: bool = False) -> None:
        self.weight = weight.detach()  # [V, H]
        self.bias = None if bias is None else bias.detach()  # [V]
        self.scale, self.softcap = scale, softcap
        self.n_outputs = 2 if entropy else 1

    @classmethod
    def of_config(cls, config: Any, weight: Tensor, bias: Tensor | None = None, *, entropy: bool = False) -> LogProb:
        """The head of a transformers model with this configuration, which says what the model does to its logits."""
        scale, softcap = scale_and_softcap(config)
        return cls(weight, bias, scale=scale, softcap=softcap, entropy=entropy)

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[N, K] from hidden states [N, H] and token ids [N]; K is `n_outputs`."""
        if self.weight.device != hidden.device:
            self.weight = self.weight.to(hidden.device)
            self.bias = None if self.bias is None else self.bias.to(hidden.device)
        n_rows = max(1, MAX_LOGITS // (len(self.weight) * self.n_outputs))
        parts = [self._rows(*rows) for rows in zip(torch.split(hidden, n_rows), torch.split(targets, n_rows), strict=True)]
        return torch.cat(parts) if parts else hidden.new_zeros((0, self.n_outputs), dtype=torch.float32)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The weights."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def flops(self) -> int:
        """Of one position."""
        return 2 * self.weight.numel()

    def _rows(self, hidden: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            logits = linear(hidden.to(self.weight.dtype), self.weight, self.bias).float()
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return read_logits(logits, targets, entropy=self.n_outputs == 2)


def read_logits(logits: Tensor, targets: Tensor, *, entropy: bool) -> Tensor:
    """[N, 1] log-probabilities of token ids [N] under logits [N, V] in fp32, which are used up; with `entropy` [N, 2], the entropies (nats) beside them."""
    normaliser = logits.logsumexp(1, keepdim=True)
    chosen = logits.gather(1, targets[:, None]) - normaliser
    if not entropy:
        return chosen
    logprobs = logits.sub_(normaliser).clamp_min_(torch.finfo(logits.dtype).min)  # 0 x -inf is not a number
    spread = -logprobs.exp().mul_(logprobs).sum(1, keepdim=True)
    return torch.cat([chosen, spread.clamp_min_(0.0)], dim=1)
