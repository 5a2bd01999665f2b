"""TextIds: text as token ids, where text is data and never control. What texts a convention consists of is decided in `layout`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

from stepward.core import InputError

Ids = tuple[int, ...]
Variant = Literal["begin", "section", "continued"]
"""How a run of text starts: at the beginning of a text; after a special token; or within a text, where no tokenizer adds white space of its own."""


_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Tokens(NamedTuple):
    """The tokens of a run: ids, and the characters [start, end) of the run that each stands for (several tokens can share a character)."""

    ids: Ids
    starts: Ids
    ends: Ids


class AddedToken(NamedTuple):
    """A special or added token as one vocabulary entry; it takes white space at its left or right with it where its flags say so."""

    id: int
    lstrip: bool
    rstrip: bool


class TextIds:
    """Text to ids, without special tokens; remembers up to `capacity` texts. Safe to call from several threads.

    Text is data: where it spells a special or added token, such as "</s>" or a step marker, it is split like any other text, so that no step can close its
    frame. (Added tokens of white space alone, which some tokenizers use to shorten code, stay what they are: they cannot be told from text.)
    """

    def __init__(self, tokenizer: Any, *, capacity: int = 65_536) -> None:
        self.tokenizer = tokenizer
        self.capacity = capacity
        self._known: dict[tuple[str, Variant], Tokens] = {}
        self._lock = threading.Lock()
        self._backends: dict[Variant, Any] = {}
        added = {token.content: (index, token) for index, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
        self._added = {content: AddedToken(index, token.lstrip, token.rstrip) for content, (index, token) in added.items()}
        text_too = {tokenizer.unk_token_id, *(token.id for content, token in self._added.items() if _BYTE.fullmatch(content))}  # what any text can become
        self._forbidden = frozenset(token.id for token in self._added.values()) - text_too
        longest_first = sorted(self._added, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text by itself, in one call of the tokenizer for those not yet known."""
        return [tokens.ids for tokens in self.tokens([(text, "begin") for text in texts])]

    def tokens(self, runs: Sequence[tuple[str, Variant]]) -> list[Tokens]:
        """The tokens of each run, in at most one call of the tokenizer a variant for those not yet known."""
        with self._lock:
            missing = [run for run in dict.fromkeys(runs) if run not in self._known]
            fresh: dict[tuple[str, Variant], Tokens] = {}
            for variant in dict.fromkeys(variant for _, variant in missing):
                texts = [text for text, kind in missing if kind == variant]
                fresh.update(zip([(text, variant) for text in texts], self._tokenize(texts, variant), strict=True))
            found = [fresh[run] if run in fresh else self._known[run] for run in runs]
            if len(self._known) + len(fresh) > self.capacity:
                self._known.clear()
            self._known.update(list(fresh.items())[: self.capacity])
            return found

    def split(self, text: str) -> list[str | AddedToken]:
        """A text of ours as its special and added tokens and what lies between them."""
        parts: list[str | AddedToken] = []
        place = 0
        for found in self._pattern.finditer(text):
            if found.start() > place:
                parts.append(text[place : found.start()])
            parts.append(self._added[found.group()])
            place = found.end()
        return [*parts, text[place:]] if place < len(text) else parts

    def _tokenize(self, texts: list[str], variant: Variant) -> list[Tokens]:
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # a lone surrogate has no bytes to tokenise
        if not self.tokenizer.is_fast:
            return [self._slowly(text, variant) for text in clean]
        rows = self._backend(variant).encode_batch(clean, add_special_tokens=False)
        return [self._checked(text, row, variant) for text, row in zip(clean, rows, strict=True)]

    def _checked(self, text: str, row: Any, variant: Variant) -> Tokens:
        """What the tokenizer made of a text, unless it recognised a special token in it even so; then the text is cut inside that token."""
        for index, (start, end) in zip(row.ids, row.offsets, strict=True):
            if index in self._forbidden and end - start > 1:
                middle = start + 1
                left, right = (
                    self._checked(part, self._backend(kind).encode(part, add_special_tokens=False), kind)
                    for part, kind in ((text[:middle], variant), (text[middle:], "continued"))
                )
                return Tokens(
                    left.ids + right.ids,
                    left.starts + tuple(place + middle for place in right.starts),
                    left.ends + tuple(place + middle for place in right.ends),
                )
        return Tokens(tuple(row.ids), tuple(start for start, _ in row.offsets), tuple(end for _, end in row.offsets))

    def _slowly(self, text: str, variant: Variant) -> Tokens:
        if variant != "begin":
            name = type(self.tokenizer).__name__
            raise InputError(f"tokenisation='joint' needs a fast tokenizer, one with a tokenizer.json; {name} is a slow one")
        ids = tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
        return Tokens(ids, (0,) * len(ids), (len(text),) * len(ids))

    def _backend(self, variant: Variant) -> Any:
        """The tokenizer's own pipeline without its added tokens, and without what it puts at the start of a text where the variant says so."""
        if variant not in self._backends:
            from tokenizers import Tokenizer

            pipeline = json.loads(self._pipeline)
            pipeline["added_tokens"] = [token for token in pipeline["added_tokens"] if not token["content"].strip()]
            pipeline["post_processor"] = pipeline["truncation"] = pipeline["padding"] = None
            for stage in ("normalizer", "pre_tokenizer"):
                pipeline[stage] = _without_start(pipeline[stage], variant)
            self._backends[variant] = Tokenizer.from_str(json.dumps(pipeline))
        return self._backends[variant]

    @cached_property
    def _pipeline(self) -> str:
        return str(self.tokenizer.backend_tokenizer.to_str())


def _without_start(stage: Any, variant: Variant) -> Any:
    """A normaliser or pre-tokeniser that adds at the start of a run only what the variant allows."""
    if stage is None or variant == "begin":
        return stage
    kind = stage["type"]
    if kind == "Sequence":
        parts = "normalizers" if "normalizers" in stage else "pretokenizers"
        inner = [part for part in (_without_start(part, variant) for part in stage[parts]) if part is not None]
        return {**stage, parts: inner}
    if kind == "Metaspace" and (variant == "continued" or stage.get("prepend_scheme") == "first"):
        return {**stage, "prepend_scheme": "never"}
    if variant == "continued" and kind == "Prepend":
        return None
    if variant == "continued" and kind == "ByteLevel":
        return {**stage, "add_prefix_space": False}
    return stage
