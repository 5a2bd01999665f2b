"""Request and Row: what the pool is asked for, and one draw of it while it runs. No tensors here."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from stepward.core import Sampling, Until

Ids = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """`n` draws that continue `ids` (prompt and solution so far). `key` names the prefix in the noise; `n_steps` and `n_tokens` are what it has already.

    `begun`: the first tokens of the one draw, written by an earlier request that broke it off; it goes on behind them with the noise of its place.
    """

    prompt: Ids
    ids: Ids
    key: str
    n_steps: int
    n_tokens: int
    n: int
    draw: int
    until: Until
    sampling: Sampling
    max_length: int  # of the whole sequence, in tokens
    begun: Ids = ()
    begun_logprobs: tuple[float, ...] = ()
    future: Future[list[Draw]] = field(default_factory=Future)

    @property
    def known(self) -> Ids:
        """All tokens that are there before the first new one."""
        return self.ids + self.begun


@dataclass(frozen=True, kw_only=True)
class WrittenStep:
    """A step as sampled. `ids` leave out the end of text; None where the step's border lies inside a token, so that no ids stand for exactly its text."""

    text: str
    separator: str
    n_tokens: int
    logprob: float
    ids: Ids | None


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One finished draw: its steps, and all token ids that were written for them."""

    steps: tuple[WrittenStep, ...]
    finished: bool
    truncated: bool
    tokens: Ids
    logprobs: tuple[float, ...]  # natural-log probability of each token
    n_prefilled: int  # known tokens that went through the model for this draw: they were neither remembered nor computed for another draw

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)


class Row:
    """One draw while it is being written."""

    __slots__ = ("carry", "clean", "draws", "index", "logprobs", "n_prefilled", "request", "start", "steps", "tokens")

    def __init__(self, request: Request, index: int, draws: list[Draw | None]) -> None:
        self.request, self.index, self.draws = request, index, draws
        self.tokens: list[int] = list(request.begun)
        self.logprobs: list[float] = list(request.begun_logprobs)
        self.steps: list[WrittenStep] = []
        self.start = 0  # first token of the step that is open
        self.carry = ""  # text of the open step that came with the last token of the step before it
        self.clean = True  # whether the open step starts at a token's border
        self.n_prefilled = 0

    @property
    def limit(self) -> int:
        """Tokens after which the row is cut off, whatever it writes."""
        request = self.request
        return min(request.sampling.max_tokens - request.n_tokens, request.max_length - len(request.ids))

    @property
    def stop_at(self) -> int:
        """Tokens after which the row needs a look even if nothing ended."""
        return min(self.limit, self.start + self.request.sampling.max_step_tokens)

    def close_step(self, text: str, separator: str, *, rest: str = "", n_silent: int = 0) -> None:
        """The open step ends here; `rest` is what its last token holds of the next one. The last `n_silent` tokens (end of text) stand for no text."""
        end = len(self.tokens)
        ids = tuple(self.tokens[self.start : end - n_silent]) if self.clean and not rest else None
        logprob = float(sum(self.logprobs[self.start :]))
        self.steps.append(WrittenStep(text=text, separator=separator, n_tokens=end - self.start, logprob=logprob, ids=ids))
        self.start, self.carry, self.clean = end, rest, not rest

    def absorb_tail(self, separator: str) -> None:
        """Count the tokens after the last step (white space, then one end of text) as that step's."""
        last = self.steps[-1]
        ids = None if last.ids is None or not self.clean else (*last.ids, *self.tokens[self.start : -1])
        n_tail, tail_logprob = len(self.tokens) - self.start, float(sum(self.logprobs[self.start :]))
        self.steps[-1] = WrittenStep(
            text=last.text, separator=last.separator + separator, n_tokens=last.n_tokens + n_tail, logprob=last.logprob + tail_logprob, ids=ids
        )
