"""A loaded checkpoint folder: its tokenizer, the whole transformers model in fp32, and the raw tensors of its files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tests.rewards.references.text import PlainTokenizer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM


class Checkpoint:
    """`reference`: the folder of the reference model, for log-ratios. `lengths`: tokens of the sequences that were run."""

    def __init__(self, folder: Path, reference: Path | None = None) -> None:
        self.folder = folder
        self.tokenizer = PlainTokenizer(folder)
        self.reference = Checkpoint(reference) if reference else None
        self.lengths: list[int] = []

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Every weight by its name in the files, without the prefix that value-head wrappers put before it."""
        found: dict[str, torch.Tensor] = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            found |= load_file(file)
        return {name.removeprefix("pretrained_model."): tensor.float() for name, tensor in found.items()}

    @cached_property
    def language_model(self) -> Any:
        return self._filled(AutoModelForCausalLM, {name: tensor for name, tensor in self.tensors.items() if name.startswith(("model.", "lm_head."))})

    @cached_property
    def backbone(self) -> Any:
        return self._filled(AutoModel, {name.removeprefix("model."): tensor for name, tensor in self.tensors.items() if name.startswith("model.")})

    @torch.no_grad()
    def logits(self, ids: list[int], at: Sequence[int] = ()) -> torch.Tensor:
        """[N, V], the language model's logits at the tokens `at`, or at every one."""
        return self.language_model(self._one(ids), logits_to_keep=torch.tensor(at) if at else 0).logits[0]

    @torch.no_grad()
    def hidden(self, ids: list[int]) -> torch.Tensor:
        """[T, h], the last hidden states, after the final norm."""
        return self.backbone(self._one(ids)).last_hidden_state[0]

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """x through the linear layer of this name."""
        return torch.nn.functional.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def _one(self, ids: list[int]) -> torch.Tensor:
        self.lengths.append(len(ids))
        return torch.tensor([ids])

    def _filled(self, kind: Any, weights: dict[str, torch.Tensor]) -> Any:
        model = kind.from_config(AutoConfig.from_pretrained(self.folder), dtype=torch.float32, attn_implementation="sdpa")
        model.load_state_dict(weights, strict=True)
        return model.eval()
