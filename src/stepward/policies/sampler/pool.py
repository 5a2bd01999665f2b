"""Pool: the rows that are being written. Rows that end make room at once for the next draws; requests may join at any time.

One thread drives it. It knows token ids, noise and step ends; the model is behind a Decoder.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future

import numpy as np

from stepward.core import RequestFailed, Until
from stepward.engine.noise import row_key, uniform_at
from stepward.policies.sampler.decoder import Decoder
from stepward.policies.sampler.filters import draw_tokens
from stepward.policies.sampler.rendering import Rendering
from stepward.policies.sampler.request import Draw, Request, Row
from stepward.policies.sampler.slots import Slots
from stepward.policies.sampler.steps import cut_step


class Pool:
    """At most `max_rows` rows, those that are equal so far in one slot of the decoder, and a queue of draws behind them."""

    def __init__(self, decoder: Decoder, rendering: Rendering, *, max_rows: int) -> None:
        self._slots, self._rendering, self._max_rows = Slots(decoder, max_rows=max_rows), rendering, max_rows
        self._queue: deque[Row] = deque()
        self._abandoned = False  # whether a request was cancelled since rows were last looked at
        self._rows: list[Row] = []
        self._written = np.zeros(max_rows, dtype=np.int64)
        self._stop_at = np.zeros(max_rows, dtype=np.int64)
        self._noise = np.zeros((max_rows, 2), dtype=np.uint64)
        self._temperature = np.ones(max_rows)
        self._top_p = np.ones(max_rows)
        self._top_k = np.zeros(max_rows, dtype=np.int64)
        self._drawn = np.zeros(max_rows, dtype=np.int64)
        self._look = np.zeros(0, dtype=np.bool_)  # tokens after which a row needs a look
        self.n_passes = 0  # forward passes, how many rows they served and how many sequences they computed: what a benchmark wants to know
        self.n_row_passes = 0
        self.n_slot_passes = 0

    @property
    def idle(self) -> bool:
        return not self._rows and not self._queue

    def add(self, request: Request) -> None:
        """Queue all draws of a request. When its future is cancelled, they are given up before the next pass."""
        request.future.add_done_callback(self._note_cancelled)
        draws: list[Draw | None] = [None] * request.n
        self._queue.extend(Row(request, index, draws) for index in range(request.n))

    def fail(self, error: Exception) -> None:
        """Give up on everything that runs or waits."""
        for row in (*self._rows, *self._queue):
            _fail(row.request, error)
        self._rows.clear()
        self._queue.clear()

    def advance(self) -> None:
        """Let waiting draws in, then write one token in every row that somebody waits for."""
        if self._abandoned:
            self._drop_abandoned()
        self._admit()
        n_rows = len(self._rows)
        if not n_rows:
            return
        logits = self._slots.step(n_rows)
        self.n_passes += 1
        self.n_row_passes += n_rows
        self.n_slot_passes += self._slots.n
        uniform = uniform_at(self._noise[:n_rows], self._written[:n_rows])
        tokens, logprobs = draw_tokens(logits, uniform, temperature=self._temperature[:n_rows], top_k=self._top_k[:n_rows], top_p=self._top_p[:n_rows])
        for row, token, logprob in zip(self._rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
        self._written[:n_rows] += 1
        self._drawn[:n_rows] = tokens
        if len(self._look) < logits.shape[-1]:
            self._look = self._rendering.may_end(logits.shape[-1])
            self._look[[token for token in self._rendering.eos_ids if token < len(self._look)]] = True
        looked_at = np.flatnonzero(self._look[tokens] | (self._written[:n_rows] >= self._stop_at[:n_rows]) | np.isnan(logprobs))
        ended = [at for at in looked_at.tolist() if self._ends(at)]
        for at in reversed(ended):
            self._release(at)
        self._slots.settle(self._drawn[: len(self._rows)])

    def _note_cancelled(self, future: Future[list[Draw]]) -> None:
        """Called in whichever thread ends the future."""
        if future.cancelled():
            self._abandoned = True

    def _drop_abandoned(self) -> None:
        self._abandoned = False  # before the look: who is cancelled during it is found in the next one
        left = [at for at, row in enumerate(self._rows) if row.request.future.done()]
        for at in reversed(left):
            self._release(at)
        if left:
            self._slots.settle(self._drawn[: len(self._rows)])

    def _admit(self) -> None:
        """Fill free rows from the queue."""
        first = len(self._rows)
        while self._queue and len(self._rows) < self._max_rows:
            row = self._queue.popleft()
            request = row.request
            if request.future.done():  # cancelled or failed
                continue
            at = len(self._rows)
            self._rows.append(row)
            self._written[at] = len(request.begun)
            self._stop_at[at] = row.stop_at
            self._noise[at] = row_key(request.sampling.seed, request.key, request.draw + row.index)
            sampling = request.sampling
            self._temperature[at], self._top_p[at], self._top_k[at] = sampling.temperature, sampling.top_p, sampling.top_k
        if len(self._rows) > first:
            computed = self._slots.open(first, [(row.request.prompt, row.request.known) for row in self._rows[first:]])
            for row, n_prefilled in zip(self._rows[first:], computed, strict=True):
                row.n_prefilled = n_prefilled

    def _ends(self, at: int) -> bool:
        """Look at a row after its last token: close steps, and say whether the row has ended."""
        row = self._rows[at]
        request, sampling = row.request, row.request.sampling
        if request.future.done():
            return True
        if math.isnan(row.logprobs[-1]):
            _fail(request, RequestFailed(f"the model gave non-finite logits after {len(request.ids) + len(row.tokens) - 1} tokens of prefix {request.key}"))
            return True
        at_end = row.tokens[-1] in self._rendering.eos_ids
        ids = row.tokens[row.start :]
        text = row.carry + self._rendering.text_of(ids[:-1] if at_end else ids)
        while (cut := cut_step(text, self._rendering.separator)) is not None:
            row.close_step(cut.text, cut.separator, rest=cut.rest)
            text = cut.rest
            n_steps = request.n_steps + len(row.steps)
            if request.until is Until.STEP or n_steps >= sampling.max_steps:
                spent = n_steps >= sampling.max_steps or len(row.tokens) >= row.limit
                return self._finish(at, finished=False, truncated=spent)
        if at_end:
            if text.strip() or (text and not row.steps):
                row.close_step(text if text.strip() else "", "" if text.strip() else text, n_silent=1)
            elif row.steps:
                row.absorb_tail(text)
            return self._finish(at, finished=True, truncated=False)
        if len(row.tokens) >= row.stop_at:
            if text:
                row.close_step(text, "")
            return self._finish(at, finished=False, truncated=True)
        self._stop_at[at] = row.stop_at
        return False

    def _finish(self, at: int, *, finished: bool, truncated: bool) -> bool:
        row = self._rows[at]
        request = row.request
        row.draws[row.index] = Draw(
            steps=tuple(row.steps),
            finished=finished,
            truncated=truncated,
            tokens=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            n_prefilled=row.n_prefilled,
        )
        broken_off = truncated and len(row.tokens) < row.limit
        if request.until is Until.STEP and not finished and (broken_off or not truncated):  # likely to be continued
            self._slots.keep(at, request.prompt, (*request.ids, *row.tokens[:-1]))
        if all(draw is not None for draw in row.draws) and request.future.set_running_or_notify_cancel():
            request.future.set_result([draw for draw in row.draws if draw is not None])
        return True

    def _release(self, at: int) -> None:
        """Free a row by moving the last one into its place."""
        last = len(self._rows) - 1
        if at != last:
            self._rows[at] = self._rows[last]
            per_row = (self._slots.of_row, self._drawn, self._written, self._stop_at, self._noise, self._temperature, self._top_p, self._top_k)
            for array in per_row:
                array[at] = array[last]
        self._rows.pop()


def _fail(request: Request, error: Exception) -> None:
    if not request.future.done() and request.future.set_running_or_notify_cancel():
        request.future.set_exception(error)
