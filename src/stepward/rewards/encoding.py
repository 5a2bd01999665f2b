"""Encoding: a trajectory as token ids with the position where each step is read, built by joining ids and never by searching them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepward.core import CountMismatch, InputError, Trajectory
from stepward.rewards.convention import Convention

Ids = tuple[int, ...]
_PROBLEM = "\u2063problem\u2063"  # stands for the problem while a chat template is rendered; U+2063 is an invisible separator


@dataclass(frozen=True, eq=False)
class Encoded:
    """T steps in L tokens. Step t is read at token `read[t]`; its text is the tokens `span[t, 0]` to `span[t, 1]` (end excluded, marker not included).

    `kept[t]` is False where the step did not fit; `read` and `span` are then -1. The ids end with the marker of the last kept step.
    """

    ids: NDArray[np.int64]  # [L]
    read: NDArray[np.int64]  # [T]
    span: NDArray[np.int64]  # [T, 2]
    kept: NDArray[np.bool_]  # [T]
    max_tokens: int

    def __len__(self) -> int:
        """L, the number of tokens."""
        return len(self.ids)

    @property
    def n_kept(self) -> int:
        return int(self.kept.sum())


class TextIds:
    """Text to ids, without special tokens; remembers up to `capacity` texts. Safe to call from several threads.

    Text is data: where it spells a special token, such as "</s>", it is split like any other text, so that no step can close its frame.
    """

    def __init__(self, tokenizer: Any, *, capacity: int = 65_536) -> None:
        self.tokenizer = tokenizer
        self.capacity = capacity
        self._known: dict[str, Ids] = {}
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, in one call of the tokenizer for those not yet known."""
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            fresh = dict(zip(missing, self._tokenize(missing), strict=True))
            found = [fresh[text] if text in fresh else self._known[text] for text in texts]
            if len(self._known) + len(fresh) > self.capacity:
                self._known.clear()
            self._known.update(list(fresh.items())[: self.capacity])
            return found

    def special(self, text: str) -> Ids:
        """The ids of a text of ours, in which special tokens are themselves."""
        with self._lock:
            return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"])

    def _tokenize(self, texts: list[str]) -> list[Ids]:
        if not texts:
            return []
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # a lone surrogate has no bytes to tokenise
        rows = self.tokenizer(clean, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return [tuple(row) for row in rows]


class Encoder:
    """A tokenizer and a convention, ready to encode many trajectories."""

    def __init__(self, tokenizer: Any, convention: Convention, *, max_tokens: int | None = None) -> None:
        self.convention = convention
        self.max_tokens = convention.max_tokens if max_tokens is None else max_tokens
        self.text_ids = tokenizer if isinstance(tokenizer, TextIds) else TextIds(tokenizer)
        self.marker = self.text_ids.special(convention.marker)
        if not self.marker:
            raise InputError(f"the tokenizer turns the step marker {convention.marker!r} into no tokens; choose a marker that it keeps")
        self._head, self._tail = self._frame()

    def __call__(self, trajectory: Trajectory) -> Encoded:
        """Encode one trajectory."""
        return self._join(trajectory, self.text_ids(self._texts(trajectory)))

    def many(self, trajectories: Sequence[Trajectory]) -> list[Encoded]:
        """Encode many trajectories with one call of the tokenizer."""
        texts = [self._texts(trajectory) for trajectory in trajectories]
        ids = iter(self.text_ids([text for row in texts for text in row]))
        return [self._join(trajectory, [next(ids) for _ in row]) for trajectory, row in zip(trajectories, texts, strict=True)]

    def _frame(self) -> tuple[Ids, Ids]:
        """What stands before and after the problem."""
        tokenizer, convention = self.text_ids.tokenizer, self.convention
        bos: Ids = (tokenizer.bos_token_id,) if convention.bos and tokenizer.bos_token_id is not None else ()
        if convention.template == "raw":
            return bos, ()
        if not tokenizer.chat_template:
            raise InputError("Convention.template is 'chat' but the tokenizer has no chat template; use template='raw'")
        system = [{"role": "system", "content": convention.system}] if convention.system else []
        rendered = tokenizer.apply_chat_template([*system, {"role": "user", "content": _PROBLEM}], add_generation_prompt=True, tokenize=False)
        parts = rendered.split(_PROBLEM)
        if len(parts) != 2:
            raise InputError(f"the tokenizer's chat template writes the user's message {len(parts) - 1} times; it must write it once")
        head, tail = (self.text_ids.special(part) for part in parts)
        return (head if head[: len(bos)] == bos else bos + head), tail

    def _texts(self, trajectory: Trajectory) -> list[str]:
        """The problem, then each step, each followed by its observation if there is one."""
        prompt = trajectory.problem.prompt
        texts = [prompt + self.convention.prompt_end if self.convention.template == "raw" else prompt]
        for step in trajectory.steps:
            texts.append(step.text)
            if step.observation is not None:
                texts.append(step.observation)
        return texts

    def _join(self, trajectory: Trajectory, pieces: Sequence[Ids]) -> Encoded:
        n_steps = len(trajectory)
        read = np.full(n_steps, -1, dtype=np.int64)
        span = np.full((n_steps, 2), -1, dtype=np.int64)
        ids: list[int] = []
        pending = [*self._head, *pieces[0], *self._tail]  # context that is only worth its tokens when a step follows
        place = 1
        for index, step in enumerate(trajectory.steps):
            text = pieces[place]
            place += 1
            start = len(ids) + len(pending)
            end = start + len(text)
            if end + len(self.marker) > self.max_tokens:
                break
            ids += pending
            ids += text
            ids += self.marker
            span[index] = start, end
            read[index] = len(ids) - 1
            pending = []
            if step.observation is not None:
                pending = [*pieces[place], *self.marker]
                place += 1
        kept = read >= 0
        if len(read) != n_steps:
            raise CountMismatch(f"{n_steps} steps but {len(read)} positions to read")
        return Encoded(np.array(ids, dtype=np.int64), read, span, kept, self.max_tokens)


def encode(trajectory: Trajectory, tokenizer: Any, convention: Convention, max_tokens: int | None = None) -> Encoded:
    """Token ids of a trajectory, and where each of its T steps is read.

    `[BOS] problem step_0 marker [observation_0 marker] step_1 marker ...`, each piece tokenised by itself. Observations are context: they have
    tokens but no span and no position that is read. Steps that do not fit into `max_tokens` (default: the convention's) are left out whole,
    from the first that does not fit on; a step is never cut and the problem never loses its beginning.

    Raises: InputError when the marker has no tokens, or the convention asks for a chat template that the tokenizer lacks.
    """
    return Encoder(tokenizer, convention, max_tokens=max_tokens)(trajectory)
