"""Rendering: a trajectory as token ids, and token ids as text. One tokenizer, one template, one separator; sampling is not decided here."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepward.core import InputError, Problem, Trajectory, content_hash

Template = Literal["raw", "chat"]
Continuation = Literal["ids", "text"]
_ANCHORS = ("\n", "0", "a")  # text that stands for "something was written before", so that a tokenizer does not treat a step as the start of a text
_REMEMBERED_PROMPTS = 4096
_REMEMBERED_STEPS = 1 << 16


class Rendered(NamedTuple):
    """Token ids of the prompt and of every step, observations included in the step that they answer."""

    prompt: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    observed: tuple[int, ...]  # how many ids at the end of each step are the environment's

    @property
    def ids(self) -> tuple[int, ...]:
        return sum(self.steps, self.prompt)

    @property
    def n_written(self) -> int:
        return sum(map(len, self.steps)) - sum(self.observed)


class Rendering:
    """Prompt ids followed by the ids of the steps, concatenated as ids and never as strings.

    "chat": the prompt is the user's turn, the solution the open assistant turn. "raw": prompt + "\\n". A step is tokenised by itself, as text that
    follows other text; with continuation "text" always, with "ids" only where the ids that were sampled here are no longer remembered.
    An observation follows its step verbatim, with the separator after it.
    """

    def __init__(
        self, tokenizer: Any, *, template: Template, separator: str, eos_ids: Iterable[int], continuation: Continuation = "text", system: str = ""
    ) -> None:
        if not separator:
            raise InputError("the step separator is empty; give the text that ends a step, for example '\\n\\n'")
        if template not in ("raw", "chat"):
            raise InputError(f"template must be 'raw' or 'chat', got {template!r}")
        if continuation not in ("ids", "text"):
            raise InputError(f"continuation must be 'ids' or 'text', got {continuation!r}")
        if template == "chat" and not getattr(tokenizer, "chat_template", None):
            raise InputError("template='chat' but the tokenizer has no chat template; use template='raw'")
        if template == "raw" and system:
            raise InputError(f"a system message needs template='chat', got template='raw' with system={system!r}")
        self.tokenizer, self.template, self.separator, self.system, self.continuation = tokenizer, template, separator, system, continuation
        self.eos_ids = frozenset(int(token) for token in eos_ids)
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self._lock = threading.RLock()  # tokenisation happens in the caller's thread, detokenisation in the sampler's
        self._prompts: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._texts: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._sampled: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._anchor_text, self._anchor_ids = self._find_anchor()
        self._anchor_length = len(self._decode(self._anchor_ids))

    @property
    def fingerprint(self) -> str:
        """Hash of the tokenizer, the template and everything else that decides the ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        chat = str(self.tokenizer.chat_template) if self.template == "chat" else ""
        return content_hash("rendering", vocabulary, chat, self.template, self.separator, self.system, self.continuation, json.dumps(sorted(self.eos_ids)))

    def render(self, trajectory: Trajectory) -> Rendered:
        """Raises: InputError for a problem with images, which a text model cannot read."""
        steps, observed = [], []
        for step, key in zip(trajectory.steps, trajectory.keys[1:], strict=True):
            ids = self._sampled.get(key) if self.continuation == "ids" else None
            written = self.encode(step.written) if ids is None else ids
            answer = self.encode(step.observation + self.separator) if step.observation else ()
            steps.append(written + answer)
            observed.append(len(answer))
        return Rendered(self.prompt(trajectory.problem), tuple(steps), tuple(observed))

    def prompt(self, problem: Problem) -> tuple[int, ...]:
        """Token ids that the model reads before the first step."""
        with self._lock:
            ids = self._prompts.get(problem.key)
            if ids is None:
                ids = self._prompts[problem.key] = self._render_prompt(problem)
                while len(self._prompts) > _REMEMBERED_PROMPTS:
                    self._prompts.popitem(last=False)
            return ids

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of text that follows other text."""
        if not text:
            return ()
        with self._lock:
            ids = self._texts.get(text)
            if ids is None:
                anchored = self._encode(self._anchor_text + text)
                n = len(self._anchor_ids)
                ids = self._texts[text] = anchored[n:] if n and anchored[:n] == self._anchor_ids else self._encode(text)
                while len(self._texts) > _REMEMBERED_STEPS:
                    self._texts.popitem(last=False)
            return ids

    def text_of(self, ids: Sequence[int]) -> str:
        """What these ids add to the text before them."""
        if not ids:
            return ""
        with self._lock:
            return self._decode((*self._anchor_ids, *ids))[self._anchor_length :]

    def remember(self, key: str, ids: tuple[int, ...]) -> None:
        """Keep the ids that were sampled for the last step of the trajectory with this key; the first ones win."""
        if self.continuation == "ids":
            with self._lock:
                self._sampled.setdefault(key, ids)
                while len(self._sampled) > _REMEMBERED_STEPS:
                    self._sampled.popitem(last=False)

    def may_end(self, n_vocabulary: int) -> NDArray[np.bool_]:
        """True for tokens after which a step may have ended, shape [V]: their text holds the separator's last character, or is not decodable alone."""
        last = self.separator[-1]
        flags = np.zeros(n_vocabulary, dtype=np.bool_)
        for token in range(min(n_vocabulary, len(self.tokenizer))):
            piece = self.text_of((token,))
            flags[token] = last in piece or (not last.isascii() and "\ufffd" in piece)
        return flags

    def _render_prompt(self, problem: Problem) -> tuple[int, ...]:
        if problem.images:
            raise InputError(f"problem {problem.id!r} has images, which this policy cannot read; use a policy that sees images, or remove them")
        if self.template == "chat":
            messages = [{"role": "system", "content": self.system}] if self.system else []
            messages.append({"role": "user", "content": problem.prompt})
            return self._encode(str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)))
        ids = tuple(self.tokenizer(problem.prompt + "\n")["input_ids"])
        while ids and ids[-1] in self.eos_ids:  # some tokenizers close every text; this one goes on
            ids = ids[:-1]
        if not ids:
            raise InputError(f"the tokenizer gives no token for the prompt {problem.prompt!r}")
        return ids

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decode(self, ids: Sequence[int]) -> str:
        if self._fast is not None:  # what the call below comes to, without its checks; rows end often
            return str(self._fast.decode(list(ids), skip_special_tokens=False))
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _find_anchor(self) -> tuple[str, tuple[int, ...]]:
        for text in _ANCHORS:
            ids = self._encode(text)
            if ids and self._decode((*ids, *ids)).startswith(self._decode(ids)):
                return text, ids
        return "", ()
