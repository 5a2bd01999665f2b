"""Small random models and tokenizers of several families, made once per test run."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = (
    "Tom has 3 apples. He buys 4 more.\n\nSo 3 + 4 = 7.\n\nThe answer is 7.\n",
    "A box holds 12 pens;\nhalf of 12 is 6.\n\nSix pens — «six» — are left: 12 - 6 = 6.\n\n",
    "Step 1: twice 9 is 18.\nStep 2: 18 + 5 = 23.\nAnswer: 23\n ки\n",
)
EOS = "<eos>"


@cache
def byte_level() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]+\n*|\s+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS * 4, trainers.BpeTrainer(vocab_size=340, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS)


@cache
def metaspace() -> Any:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    specials = ["<unk>", EOS, "<0x0A>"]  # a line break is a byte token, as in SentencePiece models
    lines = [line for text in CORPUS for line in text.split("\n")]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(lines * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, unk_token="<unk>")


@cache
def word_level() -> Any:
    """Whole words that carry their leading space, digits as tokens, line breaks as tokens; decoding joins them as they are."""
    pieces = Regex(r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\n| ")
    words = sorted(
        {text[a:b] for text in CORPUS for text, (a, b) in pre_tokenizers.Split(pieces, "isolated").pre_tokenize_str(text) for a, b in [(0, len(text))]}
    )
    vocabulary = {word: index for index, word in enumerate([EOS, "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, unk_token="<unk>")


TOKENIZERS = {"byte-level BPE": byte_level, "metaspace BPE": metaspace, "word-level": word_level}


def model(kind: str, n_vocabulary: int, *, seed: int = 0, context: int = 256, scale: float = 6.0, eos: int = 0, **changes: Any) -> Any:
    """A random model with peaked next-token distributions."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    common = {"vocab_size": n_vocabulary, "eos_token_id": eos, "bos_token_id": None, "pad_token_id": None}
    shapes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": context},
        "gpt_neox": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": context},
    }
    default = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": context,
    }  # fmt: skip
    config = CONFIG_MAPPING[kind](**{**common, **shapes.get(kind, default), **changes})
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weights in made.named_parameters():
            if weights.dim() > 1:
                weights.mul_(scale if "lm_head" in name or "embed_out" in name else 3.0)
    return made
