"""HttpPolicy: a model behind any OpenAI-compatible server (vLLM, SGLang, llama.cpp, hosted) as a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from stepward.core import InputError, RequestFailed, Sampling, Step, Trajectory, Until, Usage, charge, content_hash
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.engine.retry import Retry
from stepward.policies.openai.choice import Choice, read_choices, read_usage, tokens_until
from stepward.policies.openai.connection import Connection, NoSuchEndpoint
from stepward.policies.openai.top_logprobs import choices_among, read_top_logprobs
from stepward.policies.sampler.steps import cut_step
from stepward.policies.text_resume import resume_text

Api = Literal["auto", "completions", "chat"]
Turn = Literal["flags", "prefill", "none"]
Stopping = Literal["auto", "server", "cut"]
_TOP_LOGPROBS = 20  # what vLLM, SGLang and OpenAI's chat give at most unless configured otherwise


class HttpPolicy:
    """Writes steps through `/completions` or `/chat/completions` below `base_url` (which usually ends with /v1).

    Prefixes. Completions continue prompt + "\\n" + the steps written. Chat continues an assistant's message that is still open, which not every
    server can: `turn` "flags" asks for it with continue_final_message and add_generation_prompt=false (vLLM, SGLang), "prefill" by sending the
    message last (llama.cpp and some hosted models), "none" never does, so that only whole solutions can be sampled. `api` "auto" uses completions
    where the server has them.

    Step ends. With `stopping` "server" the separator is sent as a stop string. Whether that or end of text ended a choice is read from stop_reason
    (vLLM), matched_stop (SGLang) or stopping_word (llama.cpp). Where a server does not tell, the step is asked for without a stop string and cut
    here ("cut"), which is exact but pays for tokens after the step. "auto" starts with the server and changes over at the first silent answer.

    Draw i of a request asks for seed + i; whether equal seeds give equal samples is up to the server. `Step.logprob` is the sum of what the server
    reports for the step's tokens (vLLM: the model's own distribution, before temperature), None where it reports nothing. `max_step_tokens` binds
    in whole solutions only where the server reports tokens, and `max_tokens` counts those steps of a prefix whose `n_tokens` is known.

    Prices. The server is told how many tokens it may write, so a draw writes no more. But a step can cost a second request: where the server stopped before
    anything was written, or, once for "auto", where it was silent about why it stopped. So the price of a step is twice its limit, with "cut" once.

    The fingerprint covers model_name, `revision` (say there what the name does not), api and rendering, not the address. Usage is the server's own
    count; FLOPs stay 0, for the number of parameters is not known.
    """

    def __init__(
        self,
        base_url: str,
        model_name: str,
        *,
        api: Api = "auto",
        api_key: str | None = None,
        separator: str = "\n\n",
        system: str = "",
        turn: Turn = "flags",
        stopping: Stopping = "auto",
        logprobs: Literal["sampled", "none"] = "sampled",
        timeout_s: float = 300.0,
        concurrency: int = 64,
        retry: Retry | None = None,
        revision: str = "",
    ) -> None:
        if not model_name:
            raise InputError("HttpPolicy needs the model's name as the server knows it (see GET /v1/models); on the command line: --model-name")
        for name, value, known in (
            ("api", api, ("auto", "completions", "chat")),
            ("turn", turn, ("flags", "prefill", "none")),
            ("stopping", stopping, ("auto", "server", "cut")),
            ("logprobs", logprobs, ("sampled", "none")),
        ):
            if value not in known:
                raise InputError(f"HttpPolicy {name} must be one of {', '.join(known)}, got {value!r}")
        if not separator:
            raise InputError("the step separator is empty; give the text that ends a step, for example '\\n\\n'")
        self.model_name, self.separator, self.system, self.revision = model_name, separator, system, revision
        self._api, self._turn, self._stopping, self._logprobs = api, turn, stopping, logprobs
        self._asked_api, self._asked_stopping = api, stopping
        self._connection = Connection(base_url, api_key=api_key, timeout_s=timeout_s, concurrency=concurrency, retry=retry or Retry())

    @property
    def fingerprint(self) -> str:
        """Hash of what was asked for: model, revision, api, separator and system message."""
        return "http:" + content_hash("http", self.model_name, self.revision, self._asked_api, self._turn, self.separator, self.system)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close this event loop's connections (the end of the event loop does it too)."""
        await self._connection.close()

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """n continuations of an open prefix, one step or to the end.

        Raises: InputError for an ended prefix, n < 1 or images; ContextOverflow; RequestFailed when the server could not be used.
        """
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        if n < 1:
            raise InputError(f"sample needs n >= 1, got {n!r}")
        if prefix.problem.images:
            raise InputError(f"problem {prefix.problem.id!r} has images, which this policy does not send; remove them")
        limit = _limit(prefix, until, sampling)
        if not limit:
            return [Trajectory(prefix.problem, prefix.steps, truncated=True)] * n
        stop = until is Until.STEP and self._stopping != "cut"
        usages: list[Usage] = []
        try:
            choices = await self._choices(prefix, n, limit=limit, stop=stop, sampling=sampling, draw=draw, usages=usages)
            if stop and self._stopping == "auto" and any(choice.reason == "stop" and choice.stop is None for choice in choices):
                self._stopping, stop = "cut", False
                choices = await self._choices(prefix, n, limit=limit, stop=False, sampling=sampling, draw=draw, usages=usages)
            if stop:
                choices = [await self._mended(choice, prefix, limit, sampling, draw + index, usages) for index, choice in enumerate(choices)]
        finally:
            charge(Usage.total(usages))
        return [self._trajectory(prefix, choice, until=until, sampling=sampling) for choice in choices]

    async def resume(self, prefix: Trajectory, broken: Step, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Trajectory:
        """The step that draw `draw` of `prefix` began with `broken`, written on by the server behind its text; see `resume_text`.

        A draw of the same law as a step written at once, but not the same draw. Raises: as `sample`.
        """
        return await resume_text(self, prefix, broken, separator=self.separator, sampling=sampling, draw=draw)

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """The most tokens that `sample` charges; the prompt's are not known, and FLOPs are not counted."""
        del draw
        limit = _limit(prefix, until, sampling)
        twice = until is Until.STEP and self._asked_stopping != "cut"
        return Usage(policy_tokens=n * limit * (1 + twice), calls=n)

    async def choice_logprobs(self, prefix: Trajectory, choices: Sequence[str]) -> tuple[float, ...]:
        """Natural-log probability of every choice right after an open prefix, from the server's likeliest next tokens; see `choices_among`.

        NaN for all where the server lists none of them. Usage: one token written.

        Raises: InputError for an ended prefix; ContextOverflow; RequestFailed when the server could not be used.
        """
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        settings = self._settings(1, limit=1, stop=False, sampling=DEFAULT_SAMPLING, draw=0)
        answer = await self._ask(prefix, "", settings, top_logprobs=_TOP_LOGPROBS)
        charge(read_usage(answer))
        return choices_among(read_top_logprobs(answer), choices)

    async def _choices(
        self, prefix: Trajectory, n: int, *, limit: int, stop: bool, sampling: Sampling, draw: int, usages: list[Usage], extra: str = ""
    ) -> list[Choice]:
        """n choices, in as many calls as the server needs; some write fewer than they were asked for."""
        choices: list[Choice] = []
        while len(choices) < n:
            missing = n - len(choices)
            settings = self._settings(missing, limit=limit, stop=stop, sampling=sampling, draw=draw + len(choices))
            answer = await self._ask(prefix, extra, settings)
            usages.append(read_usage(answer))
            choices += read_choices(answer, most=missing)
        return choices

    def _settings(self, n: int, *, limit: int, stop: bool, sampling: Sampling, draw: int) -> dict[str, Any]:
        settings: dict[str, Any] = {"model": self.model_name, "n": n, "max_tokens": limit, "temperature": sampling.temperature}
        settings |= {"top_p": sampling.top_p, "seed": sampling.seed + draw}
        if sampling.top_k:  # not part of OpenAI's own interface: sent only when asked for
            settings["top_k"] = sampling.top_k
        if stop:
            settings["stop"] = [self.separator]
        return settings

    async def _ask(self, prefix: Trajectory, extra: str, settings: dict[str, Any], *, top_logprobs: int = 0) -> dict[str, Any]:
        written = _written(prefix, self.separator) + extra
        key = content_hash(prefix.key, str(settings["seed"]))
        if self._api != "chat":
            body = settings | {"prompt": prefix.problem.prompt + "\n" + written}
            if top_logprobs or self._logprobs == "sampled":
                body["logprobs"] = top_logprobs or 1
            try:
                answer = await self._connection.post("completions", body, key=key)
            except NoSuchEndpoint:
                if self._api == "completions":
                    raise
            else:
                self._api = "completions"
                return answer
        answer = await self._connection.post("chat/completions", self._chat_body(prefix, written, settings, top_logprobs), key=key)
        self._api = "chat"
        return answer

    def _chat_body(self, prefix: Trajectory, written: str, settings: dict[str, Any], top_logprobs: int) -> dict[str, Any]:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": prefix.problem.prompt})
        body = settings | {"messages": messages}
        if top_logprobs or self._logprobs == "sampled":
            body["logprobs"] = True
        if top_logprobs:
            body["top_logprobs"] = top_logprobs
        if written:
            if self._turn == "none":
                raise InputError(
                    "turn='none': this chat server cannot continue a partial assistant turn, so only whole solutions can be sampled; "
                    "use api='completions', or turn='flags' (vLLM, SGLang) or 'prefill' (llama.cpp) where the server supports it"
                )
            messages.append({"role": "assistant", "content": written})
            if self._turn == "flags":
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    async def _mended(self, choice: Choice, prefix: Trajectory, limit: int, sampling: Sampling, draw: int, usages: list[Usage]) -> Choice:
        """A choice that the server stopped at a separator before anything was written goes on from there, without a stop string."""
        if choice.reason != "stop" or choice.stop != self.separator or choice.text.strip():
            return choice
        lead = choice.text + self.separator
        rest = await self._choices(prefix, 1, limit=limit, stop=False, sampling=sampling, draw=draw, usages=usages, extra=lead)
        return replace(rest[0], text=lead + rest[0].text, stop=None, starts=(), logprobs=())

    def _trajectory(self, prefix: Trajectory, choice: Choice, *, until: Until, sampling: Sampling) -> Trajectory:
        """The prefix with the steps of what was written."""
        text = choice.text
        if choice.reason == "stop" and choice.stop:  # a stop string ended it: the separator was written, whether or not the server shows it
            text = text if text.endswith(choice.stop) else text + choice.stop
            if choice.stop != self.separator:
                raise RequestFailed(f"the server stopped at {choice.stop!r}, which it was not asked to; the step separator is {self.separator!r}")
        grown, at = Trajectory(prefix.problem, prefix.steps), 0
        while (cut := cut_step(text[at:], self.separator)) is not None:
            end = at + len(cut.text) + len(cut.separator)
            step, overlong = self._step(choice, cut.text, cut.separator, at, end, sampling)
            enough = len(grown) + 1 >= sampling.max_steps
            grown = grown.extend(step, truncated=overlong or enough)
            if overlong or enough or until is Until.STEP:
                return grown
            at = end
        finished = choice.reason == "stop"
        rest = text[at:]
        if not rest:
            return Trajectory(grown.problem, grown.steps, finished=finished, truncated=not finished)
        step, overlong = self._step(choice, rest if rest.strip() else "", "" if rest.strip() else rest, at, len(text) + 1, sampling)
        return grown.extend(step, finished=finished and not overlong, truncated=overlong or not finished)

    def _step(self, choice: Choice, text: str, separator: str, start: int, end: int, sampling: Sampling) -> tuple[Step, bool]:
        """The step at these characters with its tokens' count and log-probability, cut where it has too many tokens."""
        if not choice.starts:
            whole = bool(choice.logprobs) and start == 0 and end >= len(choice.text)
            return Step(text, separator, n_tokens=len(choice.logprobs), logprob=sum(choice.logprobs)) if whole else Step(text, separator), False
        first, last = tokens_until(choice, start), tokens_until(choice, end)
        overlong = last - first > sampling.max_step_tokens
        if overlong:
            last = first + sampling.max_step_tokens
            text, separator = choice.text[start : choice.starts[last]], ""
        return Step(text, separator, n_tokens=last - first, logprob=sum(choice.logprobs[first:last])), overlong


def _limit(prefix: Trajectory, until: Until, sampling: Sampling) -> int:
    """Tokens that one draw may write; 0 where a limit of the trajectory is reached."""
    left = max(0, sampling.max_tokens - sum(step.n_tokens or 0 for step in prefix.steps)) if len(prefix) < sampling.max_steps else 0
    return min(left, sampling.max_step_tokens) if until is Until.STEP else left


def _written(prefix: Trajectory, separator: str) -> str:
    """What the policy wrote so far, with what the environment answered."""
    return "".join(step.written + (step.observation + separator if step.observation else "") for step in prefix.steps)
