"""A tokenizer.json read directly, in which control tokens answer only to private names, so that nothing a user writes can become one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
from tokenizers import Tokenizer

CUT = "\ue000cut\ue001"


class PlainTokenizer:
    """`name(content)` is how a control token is written in texts given to `encode`; its ordinary spelling is ordinary text there."""

    def __init__(self, folder: Path) -> None:
        spec = json.loads((folder / "tokenizer.json").read_text())
        self.settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text())
        self.names = {token["content"]: f"\ue000{index}\ue001" for index, token in enumerate(spec["added_tokens"])}
        for token in spec["added_tokens"]:
            token["content"] = self.names[token["content"]]
        self._rename(spec["model"])
        self.backend = Tokenizer.from_str(json.dumps(spec))
        self.backend.add_special_tokens([CUT])
        self.cut_id = self.backend.token_to_id(CUT)
        self.template = self._template(folder)

    def name(self, content: str) -> str:
        return self.names[content]

    def id(self, content: str) -> int:
        found = self.backend.token_to_id(self.names.get(content, content))
        assert found is not None, f"{content!r} is not in the vocabulary"
        return int(found)

    def control(self, key: str) -> str:
        """The private name of "bos_token", "eos_token" or "pad_token"; "" where there is none."""
        value = self.settings.get(key)
        value = value["content"] if isinstance(value, dict) else value
        return self.names[value] if value else ""

    def ids(self, text: str, *, bos: bool = False) -> list[int]:
        """`text` as one string; `bos`: with what the tokenizer itself puts around it."""
        return list(self.backend.encode(text, add_special_tokens=bos).ids)

    def ids_and_reads(self, text: str, ends: Sequence[int], *, bos: bool = False) -> tuple[list[int], list[int]]:
        """`text` as one string, and for each character offset in `ends` the index of the last token before it.

        Where one token spans such an offset, the authors' code would miss a score; there the text is cut.
        """
        cuts: set[int] = set()
        while True:
            pieces, starts, at = [], [], 0
            for cut in [*sorted(cuts), len(text)]:
                pieces.append(text[at:cut])
                at = cut
            encoding = self.backend.encode(CUT.join(pieces), add_special_tokens=bos)
            for start, end in encoding.offsets:  # back to offsets in `text`
                passed = sum(1 for index, cut in enumerate(sorted(cuts)) if start >= cut + index * len(CUT))
                starts.append((start - passed * len(CUT), end - passed * len(CUT)))
            kept = [index for index, token in enumerate(encoding.ids) if token != self.cut_id]
            spans = [starts[index] for index in kept]
            crossing = {end for end in ends if any(left < end < right for left, right in spans)}
            if crossing <= cuts:
                assert not crossing, "a cut did not cut"
                reads = [max(index for index, (left, right) in enumerate(spans) if left < right <= end) for end in ends]
                return [encoding.ids[index] for index in kept], reads
            cuts |= crossing

    def render(self, messages: Sequence[tuple[str, str]], *, generation: bool = False) -> str:
        """The chat template's text, its control tokens by their private names."""
        return self.template.render(
            messages=[{"role": role, "content": content} for role, content in messages],
            add_generation_prompt=generation,
            bos_token=self.control("bos_token"),
            eos_token=self.control("eos_token"),
        )

    def _rename(self, model: dict[str, Any]) -> None:
        vocabulary = model["vocab"]
        if isinstance(vocabulary, dict):
            model["vocab"] = {self.names.get(piece, piece): index for piece, index in vocabulary.items()}
        else:
            model["vocab"] = [[self.names.get(piece, piece), score] for piece, score in vocabulary]
        if model.get("unk_token"):
            model["unk_token"] = self.names.get(model["unk_token"], model["unk_token"])

    def _template(self, folder: Path) -> jinja2.Template:
        written = folder / "chat_template.jinja"
        source = written.read_text() if written.exists() else str(self.settings.get("chat_template", ""))
        for content, name in self.names.items():
            source = source.replace(content, name)
        return jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)


def numbered(step: str, index: int) -> str:
    """The step with its number (from 1), unless it numbers itself."""
    return step if re.match(r"Step \d+:", step) else f"Step {index}: {step}"
