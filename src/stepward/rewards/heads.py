"""Heads: small layers from hidden states to the numbers that a convention reads, in fp32. Where their weights come from is decided in `head_weights`."""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor


class LinearHead:
    """z = W h + b: a classifier's classes, a value, or the language model's logits of K vocabulary pieces (K rows of its output layer).

    `scale` and `softcap` are what some language models do to their logits: z * scale, then softcap * tanh(z / softcap).
    """

    shift = 0

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, scale: float = 1.0, softcap: float | None = None) -> None:
        self.weight = weight.detach().float()  # [K, H]
        self.bias = None if bias is None else bias.detach().float()  # [K]
        self.scale, self.softcap = scale, softcap

    @property
    def n_outputs(self) -> int:
        """K."""
        return int(self.weight.shape[0])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The weights."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """[N, K] from hidden states [N, H]; `targets` are not used."""
        self._to(hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            outputs = torch.nn.functional.linear(hidden.float(), self.weight, self.bias) * self.scale
        return outputs if self.softcap is None else self.softcap * torch.tanh(outputs / self.softcap)

    def _to(self, device: torch.device) -> None:
        if self.weight.device != device:
            self.weight = self.weight.to(device)
            self.bias = None if self.bias is None else self.bias.to(device)


class MlpHead:
    """z = W2 relu(W0 h + b0) + b2, the head of Qwen2.5-Math-PRM."""

    shift = 0

    def __init__(self, inner: LinearHead, outer: LinearHead) -> None:
        self.inner, self.outer = inner, outer

    @property
    def n_outputs(self) -> int:
        """K."""
        return self.outer.n_outputs

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The weights."""
        return (*self.inner.tensors, *self.outer.tensors)

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[N, K] from hidden states [N, H]; `targets` are not used."""
        return self.outer(torch.relu(self.inner(hidden, targets)), targets)


StepHead = LinearHead | MlpHead


def head_hash(head: StepHead) -> str:
    """Names a head's kind and weights."""
    digest = blake2b(digest_size=16)
    for tensor in head.tensors:
        digest.update(str(tuple(tensor.shape)).encode() + tensor.cpu().contiguous().numpy().tobytes())
    extra = (head.scale, head.softcap) if isinstance(head, LinearHead) else ()
    digest.update(repr((type(head).__name__, extra)).encode())
    return digest.hexdigest()
