"""Aside: a second workbench for text that is only looked at. What it costs counts; what it writes is no candidate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stepward.search.watching import unwatched
from stepward.search.workbench import Workbench


@contextmanager
def aside(bench: Workbench) -> Iterator[Workbench]:
    """A workbench with a tree of its own, which nobody watches, and with the budget, the costs and the failures of `bench`.

    Its draws are numbered from 0 again, so that looking twice from one prefix is the same request, for which a journal pays once. `bench` must not be used
    inside the body.
    """
    scratch = Workbench(bench.problem, bench.policy, bench.environment, sampling=bench.sampling, budget=bench.budget, ledger=bench.ledger)
    scratch.purse, scratch.failures = bench.purse, bench.failures
    with unwatched():
        yield scratch
