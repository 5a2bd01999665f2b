"""Taking up a broken step by its text: for policies that write text and keep no tokens, as servers do."""

from __future__ import annotations

from dataclasses import replace

from stepward.core import Policy, Sampling, Step, Trajectory, Until
from stepward.engine.noise import row_key
from stepward.policies.sampler.steps import cut_step


async def resume_text(policy: Policy, prefix: Trajectory, broken: Step, *, separator: str, sampling: Sampling, draw: int) -> Trajectory:
    """`prefix` and the step that begins with `broken`, written on by the policy behind its text and joined into one.

    The rest has a seed of its own: the seed of the draw would repeat the random numbers of the first tokens. A separator that lies across the joint ends the
    step there, and what was written after it is dropped. The policy's tokenizer reads the text anew, which can be another spelling of the same beginning.
    """
    n_begun = broken.n_tokens or 0
    left = sampling.max_step_tokens - n_begun
    if left < 1:
        return prefix.extend(broken, truncated=True)
    seed = row_key(sampling.seed, f"{prefix.key} {broken.key}", draw)[0] >> 34  # 30 bits, as servers take them
    rest = replace(sampling, max_step_tokens=left, max_steps=sampling.max_steps + 1, seed=seed)  # the beginning is no step of its own
    [grown] = await policy.sample(prefix.extend(broken), 1, until=Until.STEP, sampling=rest)
    return joined(prefix, broken, grown, separator)


def joined(prefix: Trajectory, broken: Step, grown: Trajectory, separator: str) -> Trajectory:
    """The trajectory with the step `broken` and the one behind it, if any, as one step."""
    if len(grown) == len(prefix) + 1:  # nothing more was written
        return prefix.extend(broken, finished=grown.finished, truncated=grown.truncated)
    added = grown.steps[-1]
    cut = cut_step(broken.text + added.written, separator)
    text, end, dropped = (broken.text + added.text, added.separator, "") if cut is None else cut
    step = Step(
        text,
        end,
        n_tokens=None if broken.n_tokens is None or added.n_tokens is None else broken.n_tokens + added.n_tokens,
        logprob=None if broken.logprob is None or added.logprob is None else broken.logprob + added.logprob,
    )
    whole = not dropped
    return prefix.extend(step, finished=grown.finished and whole, truncated=grown.truncated and whole)
