"""Tiny tokenizers of the kinds that published checkpoints use: Qwen, Llama 3, DeepSeek (byte-level BPE) and Mistral (SentencePiece-like BPE), each with a chat
template of its kind. Checkpoints are in `checkpoints`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from stepward.core import InputError

FamilyTokenizer = Literal["qwen", "llama-3", "deepseek", "mistral"]

_LINES = (
    "Tom has 3 apples and 4 pears. How many fruits does he have in total?",
    "Tom has 3 + 4 = 7 fruits, and 7 - 2 = 5.",
    "Each box holds 12 pencils, so 5 boxes hold 5 * 12 = 60 pencils.",
    "Step 1: Half of 60 is 60 / 2 = 30. The answer is 30.",
    "Step 2: The step is correct + or incorrect - and we go on.",
    "Question: what is the next one? Answer: x = 1 ки",
    "Please reason step by step and put the answer in the box.",
)
_QWEN_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA_SPLIT = _QWEN_SPLIT.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n\n{% elif m['role'] == 'user' %}User: {{ m['content'] }}\n\n"
    "{% else %}Assistant: {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% elif m['role'] == 'assistant' %}"
    "{{ m['content'] }}{{ eos_token }}{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)


def family_tokenizer(kind: FamilyTokenizer, *, added: tuple[str, ...] = ()) -> Any:
    """A tokenizer of one of the kinds, with `added` special tokens.

    "qwen": single digits, no BOS, ChatML. "llama-3": up to three digits a token, BOS, header tokens, a template that trims messages. "deepseek": BOS with
    unusual characters, a template of plain words. "mistral": "▁" for spaces and at the start of every text, byte fallback, BOS.

    Raises: InputError for another kind.
    """
    from transformers import PreTrainedTokenizerFast

    specials: dict[str, tuple[str | None, str, tuple[str, ...], str]] = {
        "qwen": (None, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), CHATML),
        "llama-3": (
            "<|begin_of_text|>", "<|eot_id|>", ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), LLAMA_3,
        ),
        "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), DEEPSEEK),
        "mistral": ("<s>", "</s>", ("<unk>", "<s>", "</s>"), MISTRAL),
    }  # fmt: skip
    if kind not in specials:
        raise InputError(f"unknown tokenizer kind {kind!r}; choose one of {', '.join(specials)}")
    bos, eos, control, template = specials[kind]
    from tokenizers import Tokenizer, processors

    backend = Tokenizer.from_str(_mistral() if kind == "mistral" else _byte_level(_LLAMA_SPLIT if kind == "llama-3" else _QWEN_SPLIT))
    backend.add_special_tokens([*control, *added])
    if bos is not None:
        backend.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=control[0] if kind == "qwen" else eos, clean_up_tokenization_spaces=False,
        unk_token="<unk>" if kind == "mistral" else None,
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


@lru_cache(maxsize=4)
def _byte_level(split: str) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    corpus = [*_LINES, *(f"{line}\n\n{line}\n{line} \n\n\n\n{line} \n\n\n\n\n{line}" for line in _LINES)] * 3
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    return str(backend.to_str())


@lru_cache(maxsize=1)
def _mistral() -> str:
    """BPE on pieces with "▁" for spaces, trained word by word; the finished tokenizer has no pre-tokeniser, as SentencePiece models converted to this form."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    control = ["<unk>", "<s>", "</s>"]
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*control, *fallback], initial_alphabet=[chr(code) for code in range(33, 127)], show_progress=False
    )
    backend.train_from_iterator([*_LINES, "+", "-", "ки"] * 3, trainer)
    backend.pre_tokenizer = None
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    import json

    pipeline = json.loads(backend.to_str())
    pipeline["added_tokens"] = []
    return json.dumps(pipeline)
