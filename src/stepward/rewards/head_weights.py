"""From a convention and a checkpoint's weights to a head: which tensors it is made of, under which names published checkpoints hold them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stepward.core import InputError
from stepward.engine.reader.vocabulary import scale_and_softcap
from stepward.rewards.convention import Convention
from stepward.rewards.families.family import lacking, plain_name
from stepward.rewards.heads import LinearHead, MlpHead, StepHead
from stepward.rewards.weight_files import Weights

_LAYERS = ("score", "classifier", "score_head", "v_head.summary", "v_head", "value_head.summary", "value_head", "reward_head", "rm_head", "value_out")
OUTPUT_LAYERS = ("lm_head", "embed_out", "output", "language_model.lm_head")


def make_head(convention: Convention, weights: Weights, tokenizer: Any, config: Any, *, embedding: Tensor | None = None, source: str = "") -> StepHead:
    """The head that a convention reads, from the checkpoint's own tensors. `embedding`: the input embedding, which is the output layer too where it is tied.

    Raises: InputError naming the tensors that are missing, left over or of another size, and vocabulary pieces that the tokenizer lacks.
    """
    if convention.head == "log-ratio":
        raise InputError(f"convention {convention.name!r} compares two language models; it has no head to load")
    if convention.head == "tokens":
        return _token_head(convention, weights, tokenizer, config, embedding, source)
    return _layer_head(convention, weights, source)


def head_names(names: frozenset[str]) -> list[str]:
    """Those of a checkpoint's tensor names that belong to a classifier or value head."""
    return sorted(name for name in names if plain_name(name).split(".")[0] in {layer.split(".")[0] for layer in _LAYERS})


def _layer_head(convention: Convention, weights: Weights, source: str) -> StepHead:
    plain = {plain_name(name): name for name in weights.names}
    left = {plain_name(name) for name in head_names(weights.names)}

    def layer(name: str) -> LinearHead | None:
        if f"{name}.weight" not in plain:
            return None
        used = [part for part in (f"{name}.weight", f"{name}.bias") if part in plain]
        left.difference_update(used)
        tensors = [weights.tensor(plain[part]) for part in used]
        return LinearHead(*tensors)

    head: StepHead | None = None
    for name in _LAYERS:
        head = layer(name)
        if head is None and f"{name}.0.weight" in plain:
            inner, outer = layer(f"{name}.0"), layer(f"{name}.2")
            if inner is None or outer is None:
                raise InputError(f"{source!r} has {name}.0.weight but no {name}.2.weight; a head of two layers needs both")
            head = MlpHead(inner, outer)
        if head is not None:
            break
    if head is None:
        wanted = ", ".join(f"{name}.weight" for name in ("score", "score.0", "v_head.summary", "score_head"))
        raise InputError(
            f"{source!r} lacks trained weights for the head of convention {convention.name!r} ({convention.head}): none of {wanted} or the like is in its "
            "files; train a step classifier from it first, or name the convention that it was trained with"
        )
    if left:
        raise InputError(f"{source!r} holds head weights that convention {convention.name!r} does not use: {', '.join(sorted(left))}; name another convention")
    if head.n_outputs != convention.n_outputs:
        raise InputError(
            f"{source!r} has a head with {head.n_outputs} outputs, and convention {convention.name!r} ({convention.head}) reads {convention.n_outputs}; "
            "name the convention that it was trained with"
        )
    return head


def _token_head(convention: Convention, weights: Weights, tokenizer: Any, config: Any, embedding: Tensor | None, source: str) -> LinearHead:
    ids = token_ids(convention, tokenizer)
    plain = {plain_name(name): name for name in weights.names}
    scale, softcap = scale_and_softcap(config)
    for layer in OUTPUT_LAYERS:
        if f"{layer}.weight" in plain:
            bias = weights.rows(plain[f"{layer}.bias"], ids) if f"{layer}.bias" in plain else None
            return LinearHead(weights.rows(plain[f"{layer}.weight"], ids), bias, scale=scale, softcap=softcap)
    if embedding is None or not getattr(config.get_text_config(), "tie_word_embeddings", False):
        raise InputError(f"{source!r} lacks lm_head.weight, and convention {convention.name!r} reads the language model's logits; is it a language model?")
    return LinearHead(embedding[ids], scale=scale, softcap=softcap)


def token_ids(convention: Convention, tokenizer: Any) -> list[int]:
    """The ids of the convention's tokens.

    Raises: InputError naming pieces that are not in the vocabulary, and texts that begin with the same piece.
    """
    if convention.token_form == "first-of-text":
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in convention.tokens]
    else:
        absent = lacking(tokenizer, convention.tokens)
        if absent:
            raise InputError(
                f"convention {convention.name!r} reads the vocabulary pieces {', '.join(map(repr, convention.tokens))}, and the tokenizer has no "
                f"{', '.join(map(repr, absent))}; this convention is for another tokenizer"
            )
        ids = [tokenizer.get_vocab()[piece] for piece in convention.tokens]
    if len(set(ids)) < len(ids):
        raise InputError(f"convention {convention.name!r} reads {', '.join(map(repr, convention.tokens))}, which begin alike with this tokenizer: ids {ids}")
    return ids
