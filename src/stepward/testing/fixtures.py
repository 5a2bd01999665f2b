"""Tiny fixtures: tokenizers and random transformers that are made in well under a second, for tests of anything that reads or writes tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from stepward.core import InputError
from stepward.policies.checkpoint import quiet_transformers
from stepward.rewards.convention import CONFIG_KEY, Convention
from stepward.testing.checkpoints import tiny_checkpoint

__all__ = ["ARCHITECTURES", "TOKENIZER_KINDS", "Architecture", "TokenizerKind", "tiny_causal_lm", "tiny_checkpoint", "tiny_prm", "tiny_tokenizer"]

TokenizerKind = Literal["byte-bpe", "metaspace", "wordlevel"]
Architecture = Literal["llama", "qwen2", "gpt2"]
TOKENIZER_KINDS: tuple[TokenizerKind, ...] = ("byte-bpe", "metaspace", "wordlevel")
ARCHITECTURES: tuple[Architecture, ...] = ("llama", "qwen2", "gpt2")

_CORPUS = (
    "Tom has 3 apples and 4 pears. How many fruits does he have in total?",
    "Tom has 3 + 4 = 7 fruits.",
    "Each box holds 12 pencils, so 5 boxes hold 5 * 12 = 60 pencils.",
    "Half of 60 is 60 / 2 = 30. The answer is 30.",
    "Step one is right, step two is wrong, and the answer is 1 - 2 = -1.",
    "good bad fine false true so we get the next one from the last",
)


def tiny_tokenizer(kind: TokenizerKind = "byte-bpe") -> Any:
    """A transformers tokenizer of one of three families.

    "byte-bpe": byte-level BPE without BOS, any text round-trips (Qwen, GPT-2). "metaspace": unigram pieces with a leading "▁", byte fallback, and a
    BOS added on every call unless told otherwise (SentencePiece models). "wordlevel": words, digits and newlines, the rest unknown.
    All have an EOS, which also pads, and a chat template.
    """
    from transformers import PreTrainedTokenizerFast

    makers = {"byte-bpe": _byte_bpe, "metaspace": _metaspace, "wordlevel": _wordlevel}
    if kind not in makers:
        raise InputError(f"unknown tokenizer kind {kind!r}; choose one of {', '.join(makers)}")
    backend, bos, unknown = makers[kind]()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token="</s>", pad_token="</s>", unk_token=unknown, clean_up_tokenization_spaces=False
    )
    turn = "{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] }}</s>\n{% endfor %}"
    tokenizer.chat_template = "{{ bos_token or '' }}" + turn + "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    return tokenizer


def tiny_causal_lm(
    architecture: Architecture, folder: str | Path, *, tokenizer: Any = None, hidden: int = 32, layers: int = 2, max_tokens: int = 512, seed: int = 0
) -> Path:
    """A random causal language model with its tokenizer (default: byte-bpe), saved to the folder."""
    from transformers import AutoModelForCausalLM

    return _save(AutoModelForCausalLM, architecture, folder, tokenizer, _sizes(hidden, layers, max_tokens), seed, None)


def tiny_prm(
    architecture: Architecture,
    folder: str | Path,
    *,
    tokenizer: Any = None,
    hidden: int = 32,
    layers: int = 2,
    max_tokens: int = 512,
    seed: int = 0,
    convention: Convention | None = None,
) -> Path:
    """A random step classifier whose scores spread over (0, 1), with its tokenizer and its convention, saved to the folder."""
    from transformers import AutoModelForTokenClassification

    known = convention or Convention(max_tokens=max_tokens)
    return _save(AutoModelForTokenClassification, architecture, folder, tokenizer, _sizes(hidden, layers, max_tokens), seed, known)


def _sizes(hidden: int, layers: int, max_tokens: int) -> dict[str, int]:
    return {"hidden": hidden, "layers": layers, "max_tokens": max_tokens}


def _save(auto: Any, architecture: str, folder: str | Path, tokenizer: Any, sizes: dict[str, int], seed: int, convention: Convention | None) -> Path:
    import torch

    tokenizer = tiny_tokenizer() if tokenizer is None else tokenizer
    config = _config(architecture, len(tokenizer), **sizes)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    if convention is not None:
        config.num_labels = 2
        setattr(config, CONFIG_KEY, convention.to_json())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2 if not name.startswith(("score", "classifier")) else 1.0)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Path(folder)


def _config(architecture: str, vocabulary: int, *, hidden: int, layers: int, max_tokens: int) -> Any:
    from transformers import GPT2Config, LlamaConfig, Qwen2Config

    if architecture == "gpt2":
        return GPT2Config(vocab_size=vocabulary, n_positions=max_tokens, n_embd=hidden, n_layer=layers, n_head=4, bos_token_id=None, eos_token_id=None)
    families = {"llama": LlamaConfig, "qwen2": Qwen2Config}
    if architecture not in families:
        raise InputError(f"unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}")
    return families[architecture](
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_tokens,
        tie_word_embeddings=False,
    )


def _byte_bpe() -> tuple[Any, str | None, str | None]:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    # as in Qwen2: newlines join the punctuation before them
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    corpus = [*_CORPUS, *(f"{line}\n\n{line}\n" for line in _CORPUS)] * 3  # ".\n" becomes a token: the trap that separate tokenisation avoids
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    return backend, None, None


def _metaspace() -> tuple[Any, str | None, str | None]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    control = ["<unk>", "<s>", "</s>"]
    words = sorted({"▁" + word for line in _CORPUS for word in line.split()})
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    pieces = [*((piece, -1000.0) for piece in control), *((f"<0x{byte:02X}>", 0.0) for byte in range(256))]
    pieces += [*((word, -4.0) for word in words if word[1:] not in letters), *((letter, -6.0) for letter in letters)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always"), decoders.Fuse()])
    backend.add_special_tokens(control)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend, "<s>", "<unk>"


def _wordlevel() -> tuple[Any, str | None, str | None]:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    pattern = r"\n|\d|[^\W\d]+|[^\w\s]"
    backend = Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"), pre_tokenizers.Split(Regex(pattern), "isolated")])
    words = sorted({piece for line in (*_CORPUS, "\n 0123456789") for piece, _ in backend.pre_tokenizer.pre_tokenize_str(line)})
    backend.model = models.WordLevel({word: index for index, word in enumerate(["<unk>", "<s>", "</s>", *words])}, unk_token="<unk>")
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return backend, "<s>", "<unk>"
