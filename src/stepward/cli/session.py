"""Session: policies, models and environments from their specifications, behind one journal."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stepward.cli.interrupt import Interrupted
from stepward.cli.output import remarks
from stepward.core import Environment, Labeler, Policy, RewardModel, Usage, metered
from stepward.core.usage import Ledger
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledEnvironment, JournaledLabeler, JournaledPolicy, JournaledRewardModel
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.engine.recall import Keeper
from stepward.environments.load import load_environment
from stepward.policies.load import has_weights, load_policy
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions, load_reward_model

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Session:
    """What one command works with. With a journal, everything that it pays for is kept and found again by the next run."""

    journal: Keeper | None
    quiet: bool = False
    load: LoadOptions = DEFAULT_LOAD

    def policy(self, spec: str, model_name: str | None = None) -> Policy:
        options = {"device": self.load.device} if has_weights(spec) else {}  # the others have no weights here
        policy = load_policy(spec, model_name=model_name, **options)
        gc.freeze()  # until the session ends; see `session`
        return policy if self.journal is None else JournaledPolicy(policy, self.journal)

    def model(self, spec: str) -> RewardModel:
        model = load_reward_model(spec, self.load)
        gc.freeze()  # until the session ends; see `session`
        return model if self.journal is None else JournaledRewardModel(model, self.journal)

    def environment(self, spec: str) -> Environment:
        """Not journaled: its problems are its own, and only `grading` is worth keeping."""
        return load_environment(spec)

    def grading(self, environment: Environment) -> Environment:
        return environment if self.journal is None else JournaledEnvironment(environment, self.journal)

    def labeler(self, labeler: Labeler) -> Labeler:
        return labeler if self.journal is None else JournaledLabeler(labeler, self.journal)

    def each(
        self, title: str, items: Sequence[Item], fn: Callable[[Item], Awaitable[Result]], failed: Callable[[Item, str], Result], *, concurrency: int
    ) -> tuple[list[Result], Ledger, int]:
        """`fn` of every item under a progress bar; failures as `failed(item, reason)`. Returns results, the ledger and the number of failures."""

        async def run() -> tuple[list[Result | Failure], Ledger]:
            with metered() as ledger, progress(title, total=len(items), quiet=self.quiet) as bar:
                return await run_all(items, fn, limit=concurrency, on_done=lambda _, __: bar.advance()), ledger

        results, ledger = run_sync(run())
        reasons = [result.reason for result in results if isinstance(result, Failure)]
        if reasons:
            remarks.print(f"{title}: {len(reasons)} of {len(items)} failed; the first: {reasons[0]}", markup=False)
        done = [failed(item, result.reason) if isinstance(result, Failure) else result for item, result in zip(items, results, strict=True)]
        return done, ledger, len(reasons)


@contextmanager
def session(journal: Path | None, *, quiet: bool = False, load: LoadOptions = DEFAULT_LOAD) -> Iterator[Session]:
    """A session with the journal at this path (None: without one), closed at the end. `load`: how models with weights are loaded, and where they run.

    Until then what models bring is not looked through for garbage: every look would stop all threads for a quarter of a second.

    Raises: Interrupted, which says where the journal is, in place of a KeyboardInterrupt from inside.
    """
    opened: Journal | None = None
    if journal is not None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        opened = Journal(journal)
    try:
        yield Session(opened, quiet, load)
    except KeyboardInterrupt as error:
        raise Interrupted(journal) from error
    finally:
        gc.unfreeze()
        if opened is not None:
            opened.close()


def journal_for(out: Path | None, journal: Path | None) -> Path | None:
    """The journal that was asked for, or the one beside the output."""
    if journal is not None or out is None:
        return journal
    return out.with_name(out.name + ".journal")


def why_missing(reasons: Iterable[str | None]) -> dict[str, int]:
    """How many steps or results have no value for each reason, most frequent first, at most ten: a summary says how many and why."""
    return dict(Counter(reason[:200] for reason in reasons if reason).most_common(10))


def spent(ledger: Ledger) -> dict[str, Any]:
    """Usage for a summary: what the results cost, and what this run paid of it."""
    return {"usage": ledger.usage.to_record(), "paid": ledger.paid.to_record()}


def tokens(usage: Usage) -> str:
    """Usage in words."""
    return f"{usage.policy_tokens:,} policy tokens, {usage.reward_tokens:,} reward tokens, {usage.calls:,} calls"
