"""Encoding: a trajectory as token ids with the position where each step is read, built by construction and never by searching ids."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepward.core import CountMismatch, InputError, Trajectory
from stepward.rewards.chat_frame import chat_frame, strips_users, turn_frame, turns
from stepward.rewards.convention import Convention
from stepward.rewards.layout import Item, Mark, Piece, StepWriter, filled, stripped
from stepward.rewards.text_ids import AddedToken, TextIds, Tokens, Variant

__all__ = ["Encoded", "Encoder", "TextIds", "encode"]

logger = logging.getLogger(__name__)

_REMEMBERED_TOKENS = 1 << 20
_BACK = {"before-marker": 0, "before-step-end": 1}  # how many tokens before the last one so far a step is read


@dataclass(frozen=True, eq=False)
class Encoded:
    """T steps in L tokens. Step t is read at token `read[t]`; its text is the tokens `span[t, 0]` to `span[t, 1]` (end excluded, marker not included; a
    token that holds the end of the step and what follows it counts).

    `kept[t]` is False where the step did not fit, or has no token to be read at; `read` and `span` are then -1. The ids end where the last kept step is read.
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

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Where the sequence is read, increasing, each position once (two steps can be read at one token)."""
        return np.unique(self.read[self.kept])


@dataclass
class _Run:
    """Text that is tokenised in one piece, with the characters where steps begin and end."""

    variant: Variant
    text: str = ""
    marks: list[tuple[Mark, int]] = field(default_factory=list)


_Op = _Run | int | Mark  # text; a special token; step `index` is read here


class Encoder:
    """A tokenizer and a convention, ready to encode many trajectories.

    `one_pass`: one sequence holds every step of a trajectory. Otherwise, where the model was made for the ends of texts, or the chat template writes earlier
    turns differently once later ones follow, a trajectory is one sequence a step: see `sequences`.

    Raises: InputError when the marker has no tokens, or the tokenizer's chat template cannot write what the convention asks for.
    """

    def __init__(self, tokenizer: Any, convention: Convention, *, max_tokens: int | None = None) -> None:
        self.convention = convention
        self.max_tokens = convention.max_tokens if max_tokens is None else max_tokens
        self.text_ids = tokenizer if isinstance(tokenizer, TextIds) else TextIds(tokenizer)
        self._tokenizer = self.text_ids.tokenizer
        self._steps = StepWriter(convention)
        self._turns = turn_frame(self._tokenizer, convention) if convention.template == "turns" else None
        self._chat = chat_frame(self._tokenizer, convention) if convention.template == "chat" else None
        self._turn_ending = self._end_of_turn() if convention.last == "turn-end" else None
        self._strips = convention.template == "turns" and strips_users(self._tokenizer, convention)
        self.one_pass = convention.read not in ("eos", "prefix-end") and (convention.template != "turns" or self._turns is not None)
        if convention.template == "turns" and not self.one_pass:
            logger.warning("the chat template writes earlier turns differently later on: %s reads one sequence a step", convention.name)
        self._known: OrderedDict[tuple[str, bool], tuple[Encoded, ...]] = OrderedDict()
        self._n_known = 0  # tokens in them
        self._lock = threading.Lock()
        if convention.read == "eos" and self._tokenizer.eos_token_id is None:
            raise InputError("Convention.read='eos' needs a tokenizer with an end-of-text token")
        if convention.marker and not self._ids([Piece(convention.marker, True)]):
            raise InputError(f"the tokenizer turns the step marker {convention.marker!r} into no tokens; choose a marker that it keeps")

    def __call__(self, trajectory: Trajectory) -> Encoded:
        """Encode one trajectory as one sequence.

        Raises: InputError where one sequence cannot hold it (`one_pass` is False).
        """
        return self.many([trajectory])[0]

    def many(self, trajectories: Sequence[Trajectory]) -> list[Encoded]:
        """Encode many trajectories as one sequence each, with few calls of the tokenizer."""
        if not self.one_pass:
            raise InputError(f"convention {self.convention.name!r} reads one sequence a step with this tokenizer; use Encoder.sequences(trajectory)")
        return self._encoded([(self._sequence(self._items(trajectory)), len(trajectory)) for trajectory in trajectories])

    def sequences(self, trajectory: Trajectory) -> list[Encoded]:
        """The sequences that read a trajectory, each kept step in exactly one: a single one where `one_pass`, else one for every step that is kept."""
        key = (trajectory.key, trajectory.finished)  # `finished` decides how some conventions close the last step
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return list(known)
        if self.one_pass:
            found = self.many([trajectory])
        else:
            plans = [self._alone(trajectory.prefix(k)) for k in range(1, len(trajectory) + 1)]
            found = [encoded for encoded in self._encoded([(plan, len(trajectory)) for plan in plans]) if encoded.n_kept]
        self._remember(key, found)
        return found

    def _remember(self, key: tuple[str, bool], sequences: Sequence[Encoded]) -> None:
        """Searches ask for the price of what they then score, and write the same step many times."""
        with self._lock:
            self._n_known += sum(map(len, sequences)) if key not in self._known else 0
            self._known.setdefault(key, tuple(sequences))
            while self._n_known > _REMEMBERED_TOKENS:
                self._n_known -= sum(map(len, self._known.popitem(last=False)[1]))

    def _alone(self, trajectory: Trajectory) -> list[_Op]:
        """The sequence that reads the last step of a trajectory and no other."""
        convention, n_steps = self.convention, len(trajectory)
        if convention.template == "turns":
            items: Iterable[Item] = self._turn_items(trajectory, turns(self._tokenizer, convention, n_steps))
        else:
            items = self._items(trajectory)
        plan = self._sequence(items, n_steps - 1)
        place = next(place for place, op in enumerate(plan) if isinstance(op, Mark))
        ending = [self._tokenizer.eos_token_id] if convention.read == "eos" else []
        return [*plan[:place], *ending, plan[place]]

    def _items(self, trajectory: Trajectory) -> Iterable[Item]:
        """Everything that the model reads, in order."""
        convention, prompt = self.convention, self._steps.problem(trajectory)
        if convention.template == "turns":
            assert self._turns is not None
            frame = self._turns
            return self._turn_items(trajectory, [frame.head, *[frame.header, frame.gap] * len(trajectory)])
        ending = self._turn_ending if trajectory.finished else None
        if self._chat is None:
            return [*filled(convention.prompt, problem=prompt), Mark("seam", 0), *self._steps.run(trajectory, ending)]
        joint = convention.tokenisation == "joint"
        solution = list(self._steps.run(trajectory, ending, strips_last=joint and self._chat.strips_assistant))
        message = filled(convention.prompt, problem=prompt, solution=solution)
        if joint and self._chat.strips_user:
            message = stripped(message)
        if joint and self._chat.strips_assistant:
            solution = stripped(solution, right=False)
        inside = "{solution}" in convention.prompt
        head, tail = Piece(self._chat.head, True), Piece(self._chat.tail, True)
        border = Mark("cut" if convention.read == "eos" else "seam", 0)
        return [head, Mark("seam", 0), *message, Mark("seam", 0), tail, *(() if inside else (border, *solution))]

    def _turn_items(self, trajectory: Trajectory, frame: Sequence[str]) -> list[Item]:
        """A conversation of a turn a step; `frame` is what stands before, between and after the messages."""
        items: list[Item] = [Piece(frame[0], True)]
        for index in range(min(len(trajectory), len(frame) // 2)):
            message = self._steps.turn(self.convention.step if index else self.convention.first_turn, trajectory, index)
            items += stripped(message) if self._strips else message
            items += [Piece(frame[2 * index + 1], True), Mark("read", index), Piece(self.convention.verdict, True), Piece(frame[2 * index + 2], True)]
        return items

    def _plan(self, items: Iterable[Item], only: int | None = None) -> list[_Op]:
        """Items as runs of text, special tokens and reads (with `only`: of that one step)."""
        separate = self.convention.tokenisation == "separate"
        ops: list[_Op] = []
        run = _Run("begin")
        before: AddedToken | None = None

        def flush(variant: Variant, after: AddedToken | None = None) -> None:
            nonlocal run, before
            _absorb(run, before, after)
            if run.text or run.marks:
                ops.append(run)
            run, before = _Run(variant), after

        for item in items:
            if isinstance(item, Piece):
                for part in self.text_ids.split(item.text) if item.ours else (item.text,):
                    if isinstance(part, str):
                        run.text += part
                    else:
                        flush("section", part)
                        ops.append(part.id)
            elif item.kind == "read":
                if only is None or item.index == only:
                    flush("begin" if separate else "continued" if run.text else run.variant, None if run.text else before)
                    ops.append(item)
            elif separate or item.kind == "cut":
                flush("begin")
                run.marks += [(item, 0)] if item.kind in ("start", "end") else []
            elif item.kind != "seam":
                run.marks.append((item, len(run.text)))
        flush("begin")
        return ops

    def _ids(self, items: Sequence[Item]) -> list[int]:
        """The ids of items by themselves."""
        return [index for op, tokens in self._resolved(self._plan(items))[0] for index in ([op] if tokens is None else tokens.ids)]  # type: ignore[misc]

    def _sequence(self, items: Iterable[Item], only: int | None = None) -> list[_Op]:
        """A whole sequence: what `_plan` makes of the items, with the BOS tokens that the convention asks for."""
        ops, bos = self._plan(items, only), self._tokenizer.bos_token_id
        if bos is None:
            return ops
        written = next((place for place, op in enumerate(ops) if op != bos), len(ops))
        return [*[bos] * max(0, self.convention.bos - written), *ops]

    def _resolved(self, *plans: list[_Op]) -> list[list[tuple[_Op, Tokens | None]]]:
        runs = [(op.text, op.variant) for plan in plans for op in plan if isinstance(op, _Run)]
        tokens = iter(self.text_ids.tokens(runs))
        return [[(op, next(tokens) if isinstance(op, _Run) else None) for op in plan] for plan in plans]

    def _encoded(self, plans: Sequence[tuple[list[_Op], int]]) -> list[Encoded]:
        resolved = self._resolved(*(plan for plan, _ in plans))
        return [self._join(plan, n_steps) for plan, (_, n_steps) in zip(resolved, plans, strict=True)]

    def _join(self, plan: Sequence[tuple[_Op, Tokens | None]], n_steps: int) -> Encoded:
        read = np.full(n_steps, -1, dtype=np.int64)
        span = np.full((n_steps, 2), -1, dtype=np.int64)
        ids: list[int] = []
        back = _BACK.get(self.convention.read, 0)
        for op, tokens in plan:
            if isinstance(op, int):
                ids.append(op)
            elif isinstance(op, Mark):
                place = len(ids) - 1 - back
                if place >= self.max_tokens:
                    break  # this step and all after it do not fit
                read[op.index] = place
            else:
                assert tokens is not None
                for mark, character in op.marks:
                    span[mark.index, int(mark.kind == "end")] = len(ids) + _token_at(tokens, character, end=mark.kind == "end")
                ids += tokens.ids
        kept = read >= 0
        span[kept, 1] = np.maximum(span[kept, 0], span[kept, 1])
        span[~kept] = -1
        if len(read) != n_steps:
            raise CountMismatch(f"{n_steps} steps but {len(read)} positions to read")
        return Encoded(np.array(ids[: int(read.max(initial=-1)) + 1], dtype=np.int64), read, span, kept, self.max_tokens)

    def _end_of_turn(self) -> str:
        """The special token that ends the assistant's turn."""
        assert self._chat is not None
        for text in (self._chat.end, self._chat.end.lstrip()):
            parts = self.text_ids.split(text)
            if parts and isinstance(parts[0], AddedToken):
                return str(self._tokenizer.convert_ids_to_tokens(parts[0].id))
        raise InputError("Convention.last='turn-end' needs a chat template that ends the assistant's turn with a special token; use last='marker'")


def encode(trajectory: Trajectory, tokenizer: Any, convention: Convention, max_tokens: int | None = None) -> Encoded:
    """Token ids of a trajectory, and where each of its T steps is read: `Encoder` for a single use.

    Observations are context: they have tokens but no span and no position that is read. Steps that do not fit into `max_tokens` (default: the
    convention's) are left out whole, from the first that does not fit on; a step is never cut and the problem never loses its beginning.

    Raises: InputError as `Encoder`.
    """
    return Encoder(tokenizer, convention, max_tokens=max_tokens)(trajectory)


def _absorb(run: _Run, before: AddedToken | None, after: AddedToken | None) -> None:
    """Drop the white space that the special tokens around a run take with them."""
    if before is not None and before.rstrip:
        removed = len(run.text) - len(run.text.lstrip())
        run.text = run.text[removed:]
        run.marks = [(mark, max(0, place - removed)) for mark, place in run.marks]
    if after is not None and after.lstrip:
        run.text = run.text.rstrip()
        run.marks = [(mark, min(place, len(run.text))) for mark, place in run.marks]


def _token_at(tokens: Tokens, character: int, *, end: bool) -> int:
    """The first token that reaches beyond a character; for an end, the one after the last token that begins before it."""
    if end:
        return next((place + 1 for place in range(len(tokens.ids) - 1, -1, -1) if tokens.starts[place] < character), 0)
    return next((place for place in range(len(tokens.ids)) if tokens.ends[place] > character), len(tokens.ids))
