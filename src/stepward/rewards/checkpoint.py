"""Checkpoints to train from: transformers token classifiers and their tokenizers, with what was missing in them; and fingerprints. Loading a model in order
to score with it is in `loading`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepward.core import InputError, canonical_json, content_hash
from stepward.policies.checkpoint import first_line, load_tokenizer, quiet_transformers
from stepward.rewards.convention import CONFIG_KEY, Convention

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model and tokenizer. `missing`: parameters that the files did not have and that are newly initialised."""

    model: Any
    tokenizer: Any
    missing: tuple[str, ...]


def load_checkpoint(source: str | Path, *, dtype: str = "float32") -> Checkpoint:
    """A token classifier with two labels from a folder or hub id; any checkpoint with the right backbone loads, also a causal language model.

    Raises: InputError when there is no such model, the architecture has no token classifier, or the head has another number of labels.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    name = str(source)
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(name)
            trained = any(architecture.endswith("ForTokenClassification") for architecture in config.architectures or ())
            if trained and config.num_labels != 2:
                raise InputError(f"{name!r} has a head with {config.num_labels} labels; a step classifier has two (bad, good)")
            config.num_labels = 2
            config.use_cache = False
            tokenizer = load_tokenizer(name)
            model, info = AutoModelForTokenClassification.from_pretrained(name, config=config, dtype=getattr(torch, dtype), output_loading_info=True)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot load a step classifier from {name!r}: {first_line(error)}; give a folder or hub id of a transformers model") from error
    return Checkpoint(model, tokenizer, tuple(sorted(info["missing_keys"])))


def read_convention(config: Any) -> Convention | None:
    """The convention that a model's config carries, if any."""
    record = getattr(config, CONFIG_KEY, None)
    return None if record is None else Convention.from_json(record)


def fingerprint(model: Any, tokenizer: Any, convention: Convention) -> str:
    """32 hex digits that name weights, config, tokenizer and convention: equal fingerprints mean equal scores on one machine."""
    from stepward.policies.sampler.weights import weights_fingerprint

    return content_hash(weights_fingerprint(model, None), frame_fingerprint(tokenizer, convention))


def frame_fingerprint(tokenizer: Any, convention: Convention) -> str:
    """Names how text becomes ids and numbers become scores: tokenizer, chat template and convention."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else canonical_json(tokenizer.get_vocab())
    return content_hash(vocabulary, canonical_json([tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.chat_template, convention.to_json()]))
