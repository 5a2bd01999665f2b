"""Checkpoints: what every reader of transformers folders shares. Tokenizers exactly as written, and no loading noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def load_tokenizer(source: str | Path, *, revision: str | None = None) -> Any:
    """The tokenizer exactly as the checkpoint's tokenizer.json says; where there is none, as transformers builds it.

    transformers 5 rebuilds the pipelines of known model families from their vocabulary alone, which changes the ids of a tokenizer that
    departs from its family (other pre-tokenizer, other normaliser).
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(str(source), revision=revision or "main")
    except (OSError, ValueError):
        return AutoTokenizer.from_pretrained(str(source), revision=revision or "main")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No loading reports and bars from transformers: what is missing in a checkpoint is an error of ours where it matters."""
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


def first_line(error: Exception) -> str:
    """The first line of an error's message, to go on with in a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
