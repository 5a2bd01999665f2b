"""Matrix products with weights, by the library that is fastest where they run. No weight is ever copied."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.overrides import TorchFunctionMode

# oneDNN chooses its kernels by what the processor can do; the BLAS behind torch's fp32 products may choose by its maker, and is then half as fast.
_HAS_ONEDNN: bool = (
    platform.machine().lower() in ("x86_64", "amd64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def has_fast_linear(x: Tensor) -> bool:
    """Whether `linear` runs in oneDNN for such an input: fp32 on an x86 processor, without gradients."""
    return _HAS_ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., I] times weight [O, I] transposed, plus bias [O]."""
    if not _suits(x, weight, bias):
        return functional.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [None], "")
    return product


def linear_add(x: Tensor, weight: Tensor, bias: Tensor | None, addend: Tensor) -> Tensor:
    """`linear` plus addend [..., O], in one go where that can be."""
    if not _suits(x, weight, bias):
        return functional.linear(x, weight, bias).add_(addend)
    total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x.contiguous(), addend.contiguous(), weight, bias, "add")
    return total


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """oneDNN has no fast kernel for weights with gaps between their rows."""
    return (
        has_fast_linear(x)
        and x.numel() > 0
        and type(weight) in (Tensor, torch.nn.Parameter)
        and weight.dtype == torch.float32
        and weight.dim() == 2
        and (weight.is_contiguous() or weight.t().is_contiguous())
        and (bias is None or bias.dtype == torch.float32)
    )


class FastLinear(TorchFunctionMode):
    """While entered, `torch.nn.functional.linear` is `linear`: for models whose code is not ours."""

    def __torch_function__(self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is functional.linear and not kwargs and len(args) in (2, 3):
            return linear(*args)
        return func(*args, **(kwargs or {}))
