"""Checkpoints: transformers token classifiers and their tokenizers from a folder or hub id, with what was missing in them. Scoring is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepward.core import InputError, canonical_json, content_hash
from stepward.rewards.convention import CONFIG_KEY, Convention

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model and tokenizer. `missing`: parameters that the files did not have and that are newly initialised; `unexpected`: the reverse."""

    model: Any
    tokenizer: Any
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


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
            raise InputError(f"cannot load a step classifier from {name!r}: {_first_line(error)}; give a folder or hub id of a transformers model") from error
    return Checkpoint(model, tokenizer, tuple(sorted(info["missing_keys"])), tuple(sorted(info["unexpected_keys"])))


def load_tokenizer(source: str | Path) -> Any:
    """The tokenizer exactly as the checkpoint's tokenizer.json says; where there is none, as transformers builds it.

    transformers 5 rebuilds the pipelines of known model families from their vocabulary alone, which changes the ids of a tokenizer that
    departs from its family (other pre-tokenizer, other normaliser).
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(str(source))
    except (OSError, ValueError):
        return AutoTokenizer.from_pretrained(str(source))


def read_convention(config: Any) -> Convention | None:
    """The convention that a model's config carries, if any."""
    record = getattr(config, CONFIG_KEY, None)
    return None if record is None else Convention.from_json(record)


def fingerprint(model: Any, tokenizer: Any, convention: Convention) -> str:
    """32 hex digits that name weights, config, tokenizer and convention: equal fingerprints mean equal scores on one machine."""
    from stepward.policies.sampler.weights import weights_fingerprint

    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else canonical_json(tokenizer.get_vocab())
    frame = canonical_json([tokenizer.bos_token_id, tokenizer.chat_template, convention.to_json()])
    return content_hash(weights_fingerprint(model, None), vocabulary, frame)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No loading reports and bars from transformers: what is missing in a checkpoint is checked here, with an error where it matters."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
