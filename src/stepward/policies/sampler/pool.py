"""Pool: the rows that are being written. Rows that end make room at once for the next draws; requests may join at any time.

One thread drives it. It knows token ids, noise and step ends; the model is behind a Decoder.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from stepward.core import RequestFailed, Until
from stepward.engine.noise import row_key, uniform_at
from stepward.policies.sampler.decoder import Decoder
from stepward.policies.sampler.filters import draw_tokens
from stepward.policies.sampler.rendering import Rendering
from stepward.policies.sampler.request import Draw, Request, Row
from stepward.policies.sampler.steps import cut_step


class Pool:
    """At most `max_rows` rows in slots 0..B-1 of the decoder, and a queue of draws behind them."""

    def __init__(self, decoder: Decoder, rendering: Rendering, *, max_rows: int) -> None:
        self._decoder, self._rendering, self._max_rows = decoder, rendering, max_rows
        self._queue: deque[Row] = deque()
        self._rows: list[Row] = []
        self._feed = np.zeros(max_rows, dtype=np.int64)
        self._length = np.zeros(max_rows, dtype=np.int64)  # positions that the decoder holds
        self._written = np.zeros(max_rows, dtype=np.int64)
        self._stop_at = np.zeros(max_rows, dtype=np.int64)
        self._noise = np.zeros((max_rows, 2), dtype=np.uint64)
        self._temperature = np.ones(max_rows)
        self._top_p = np.ones(max_rows)
        self._top_k = np.zeros(max_rows, dtype=np.int64)
        self._look = np.zeros(0, dtype=np.bool_)  # tokens after which a row needs a look
        self.n_passes = 0  # forward passes of rows, and how many rows they had: what a benchmark wants to know
        self.n_row_passes = 0

    @property
    def idle(self) -> bool:
        return not self._rows and not self._queue

    def add(self, request: Request) -> None:
        """Queue all draws of a request."""
        draws: list[Draw | None] = [None] * request.n
        self._queue.extend(Row(request, index, draws) for index in range(request.n))

    def fail(self, error: Exception) -> None:
        """Give up on everything that runs or waits."""
        for row in (*self._rows, *self._queue):
            _fail(row.request, error)
        self._rows.clear()
        self._queue.clear()

    def advance(self) -> None:
        """Let waiting draws in, then write one token in every row."""
        self._admit()
        n_rows = len(self._rows)
        if not n_rows:
            return
        logits = self._decoder.step(self._feed[:n_rows], self._length[:n_rows])
        self.n_passes += 1
        self.n_row_passes += n_rows
        uniform = uniform_at(self._noise[:n_rows], self._written[:n_rows])
        tokens, logprobs = draw_tokens(logits, uniform, temperature=self._temperature[:n_rows], top_k=self._top_k[:n_rows], top_p=self._top_p[:n_rows])
        for row, token, logprob in zip(self._rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
        self._length[:n_rows] += 1
        self._written[:n_rows] += 1
        self._feed[:n_rows] = tokens
        if len(self._look) < logits.shape[-1]:
            self._look = self._rendering.may_end(logits.shape[-1])
            self._look[[token for token in self._rendering.eos_ids if token < len(self._look)]] = True
        looked_at = np.flatnonzero(self._look[tokens] | (self._written[:n_rows] >= self._stop_at[:n_rows]) | np.isnan(logprobs))
        ended = [slot for slot in looked_at.tolist() if self._ends(slot)]
        for slot in reversed(ended):
            self._release(slot)

    def _admit(self) -> None:
        """Fill free slots from the queue."""
        first = len(self._rows)
        while self._queue and len(self._rows) < self._max_rows:
            row = self._queue.popleft()
            request = row.request
            if request.future.done():  # cancelled or failed
                continue
            slot = len(self._rows)
            self._rows.append(row)
            self._feed[slot], self._length[slot], self._written[slot] = request.known[-1], len(request.known) - 1, len(request.begun)
            self._stop_at[slot] = row.stop_at
            self._noise[slot] = row_key(request.sampling.seed, request.key, request.draw + row.index)
            sampling = request.sampling
            self._temperature[slot], self._top_p[slot], self._top_k[slot] = sampling.temperature, sampling.top_p, sampling.top_k
        if len(self._rows) > first:
            sequences = [(row.request.prompt, row.request.known[:-1]) for row in self._rows[first:]]
            computed = self._decoder.load(range(first, len(self._rows)), sequences)
            for row, n_prefilled in zip(self._rows[first:], computed, strict=True):
                row.n_prefilled = n_prefilled

    def _ends(self, slot: int) -> bool:
        """Look at a row after its last token: close steps, and say whether the row has ended."""
        row = self._rows[slot]
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
                return self._finish(slot, finished=False, truncated=spent)
        if at_end:
            if text.strip() or (text and not row.steps):
                row.close_step(text if text.strip() else "", "" if text.strip() else text, n_silent=1)
            elif row.steps:
                row.absorb_tail(text)
            return self._finish(slot, finished=True, truncated=False)
        if len(row.tokens) >= row.stop_at:
            if text:
                row.close_step(text, "")
            return self._finish(slot, finished=False, truncated=True)
        self._stop_at[slot] = row.stop_at
        return False

    def _finish(self, slot: int, *, finished: bool, truncated: bool) -> bool:
        row = self._rows[slot]
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
            self._decoder.keep(slot, request.prompt, (*request.ids, *row.tokens[:-1]))
        if all(draw is not None for draw in row.draws) and request.future.set_running_or_notify_cancel():
            request.future.set_result([draw for draw in row.draws if draw is not None])
        return True

    def _release(self, slot: int) -> None:
        """Free a slot by moving the last row into it."""
        last = len(self._rows) - 1
        if slot != last:
            self._decoder.move(last, slot, int(self._length[last]))
            self._rows[slot] = self._rows[last]
            for array in (self._feed, self._length, self._written, self._stop_at, self._noise, self._temperature, self._top_p, self._top_k):
                array[slot] = array[last]
        self._rows.pop()


def _fail(request: Request, error: Exception) -> None:
    if not request.future.done() and request.future.set_running_or_notify_cancel():
        request.future.set_exception(error)
