"""Tiny random checkpoints of every registered family, in the layout and under the weight names of the published ones. Tokenizers are in `family_tokenizers`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stepward.policies.checkpoint import quiet_transformers
from stepward.rewards.families import family_named
from stepward.testing.family_tokenizers import FamilyTokenizer, family_tokenizer

Backbone = Literal["qwen2", "llama", "mistral"]
Form = Literal["safetensors", "sharded", "bin"]
_SPREAD = 2.5  # standard deviation of the logits


@dataclass(frozen=True)
class _Recipe:
    """How a family's tiny checkpoint differs from a plain language model. `heads`: shape by weight name, with H for the hidden size."""

    backbone: Backbone
    tokenizer: FamilyTokenizer
    heads: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    language_model: bool = True
    added: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    bos: str | None = None
    prefix: str = ""
    beside: str = ""


_TWO_LAYERS = {"score.0.weight": ("H", "H"), "score.0.bias": ("H",), "score.2.weight": (2, "H"), "score.2.bias": (2,)}
_VALUE = {"v_head.summary.weight": (1, "H"), "v_head.summary.bias": (1,)}
_QWEN_PRM = _Recipe(
    "qwen2", "qwen", _TWO_LAYERS, language_model=False, added=("<extra_0>",),
    config={"auto_map": {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"}},
)  # fmt: skip
_CLASSIFIER = _Recipe("qwen2", "qwen", {"score.weight": (2, "H"), "score.bias": (2,)}, language_model=False, config={"num_labels": 2})
_LLAMA = _Recipe("llama", "llama-3")
_RECIPES: dict[str, _Recipe] = {
    "qwen2.5-math-prm": _QWEN_PRM,
    "reasonflux-prm-7b": _QWEN_PRM,
    "reasonflux-prm-1.5b": _Recipe("qwen2", "qwen", {"reward_head.weight": (1, "H"), "reward_head.bias": (1,)}, beside="reward_head.pt"),
    "skywork-o1-open-prm": _Recipe("qwen2", "qwen", _VALUE, bos="<|endoftext|>"),
    "trl-token-classification": _CLASSIFIER,
    "pure-prm": _CLASSIFIER,
    "pqm": _Recipe("llama", "deepseek", _VALUE, added=("[PRM]",), prefix="pretrained_model."),
    "reasoneval-34b": _Recipe("llama", "mistral", {"score_head.weight": (3, "H")}, language_model=False, config={"score_dim": 3, "bias": False}),
    "reasoneval-7b": _Recipe("mistral", "mistral", {"score_head.weight": (3, "H")}, language_model=False, config={"score_dimension": 3, "use_bias": False}),
    "universal-prm": _Recipe("qwen2", "qwen", {"score.weight": (1, "H")}, language_model=False),
    "math-shepherd": _Recipe("mistral", "mistral"),
    "er-prm-mistral": _Recipe("mistral", "mistral"),
    "er-prm-llama": _LLAMA,
    "math-psa": _Recipe("qwen2", "qwen"),
    "versa-prm": _LLAMA,
    "med-prm": _Recipe("llama", "llama-3", added=(" ки",)),
    "rlhflow-mistral": _LLAMA,
    "rlhflow-deepseek": _LLAMA,
    "fover": _LLAMA,
    "visual-prm": _Recipe("qwen2", "qwen", config={"architectures": ["Qwen2ForCausalLM"]}),
    "eurus-prm": _Recipe("qwen2", "qwen"),
    "implicit-prm": _LLAMA,
    "pathfinder-prm": _Recipe("qwen2", "qwen", added=("<+>", "<->", "<extra>")),
}


def tiny_checkpoint(
    family: str, folder: str | Path, *, seed: int = 0, hidden: int = 32, layers: int = 2, max_tokens: int = 1024, form: Form = "safetensors"
) -> Path:
    """A random checkpoint of a registered family with spread-out scores, in the published layout: config, weight names, tokenizer of the same kind.

    `form`: weights in one safetensors file, in two shards, or in a PyTorch file. "math-psa" is a whole model here, not an adapter; "visual-prm" is its text
    side, a plain language model; a reference model for log-ratios is one with another seed.

    Raises: InputError for an unknown family.
    """
    import torch

    record, recipe, out = family_named(family), _RECIPES[family], Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(family)
    config = _config(recipe.backbone, len(tokenizer), hidden, layers, max_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = _language_model(config, keep_output=recipe.language_model)
        heads = {name: _random([hidden if size == "H" else int(size) for size in shape]) for name, shape in recipe.heads.items()}
    named = {f"{recipe.prefix}{name}": tensor for name, tensor in tensors.items()}
    if recipe.beside:
        torch.save({name.split(".")[-1]: tensor for name, tensor in heads.items()}, out / recipe.beside)
    else:
        named |= heads
    _write(named, out, form)
    settings = {**config.to_dict(), "architectures": [record.architectures[0]], **recipe.config}
    if "num_labels" in recipe.config:
        settings |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
        del settings["num_labels"]
    (out / "config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    with quiet_transformers():
        tokenizer.save_pretrained(out)
    return out


def tokenizer_of(family: str) -> Any:
    """The tokenizer of a registered family's tiny checkpoint."""
    recipe = _RECIPES[family_named(family).name]
    tokenizer = family_tokenizer(recipe.tokenizer, added=recipe.added)
    if recipe.bos is not None:
        tokenizer.bos_token = recipe.bos
    return tokenizer


def _config(backbone: Backbone, vocabulary: int, hidden: int, layers: int, max_tokens: int) -> Any:
    from transformers import LlamaConfig, MistralConfig, Qwen2Config

    kind = {"qwen2": Qwen2Config, "llama": LlamaConfig, "mistral": MistralConfig}[backbone]
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = kind(vocab_size=vocabulary, max_position_embeddings=max_tokens, tie_word_embeddings=False, **sizes)
    if backbone == "mistral":
        config.sliding_window = None
    return config


def _language_model(config: Any, *, keep_output: bool) -> dict[str, Any]:
    """Random weights of a language model by name, wide enough that contexts differ."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=_SPREAD / math.sqrt(2 * config.hidden_size) if name.startswith("lm_head") else 0.3)
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if keep_output or not name.startswith("lm_head")}


def _random(shape: list[int]) -> Any:
    """A layer whose outputs spread by about `_SPREAD`."""
    import torch

    return torch.randn(shape) * (_SPREAD / math.sqrt(shape[-1]) if len(shape) > 1 else 0.1)


def _write(tensors: dict[str, Any], out: Path, form: Form) -> None:
    import torch
    from safetensors.torch import save_file

    if form == "bin":
        torch.save(tensors, out / "pytorch_model.bin")
        return
    if form == "safetensors":
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    shards = {f"model-{number:05d}-of-00002.safetensors": names[start::2] for number, start in ((1, 0), (2, 1))}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, out / file, metadata={"format": "pt"})
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": {name: file for file, members in shards.items() for name in members}}
    (out / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
