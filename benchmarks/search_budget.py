"""10,000 random small searches under random budgets: is one ever exceeded, is anything charged that is not there, does anything crash?

    python benchmarks/search_budget.py

All registered strategies take turns; worlds, failures, limits and budgets are random. Each search has to pass the checks of stepward.testing.search_trials.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

from stepward.search.load import STRATEGIES
from stepward.testing.search_trials import run_trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    happened = run_trials(range(options.searches), seed=options.seed)
    figures = {
        "strategies": len(STRATEGIES),
        "searches": happened["all: searches"],
        "exceeded, lost or crashed": 0,  # the first one ends this program
        "stopped_by_the_budget": happened["all: stopped by the budget"],
        "chose": happened["all: chose"],
        "refused_before_anything_was_spent": happened["all: refused"],
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps({"benchmark": "search_budget", "machine": {"platform": platform.platform(), "cores": os.cpu_count()}, "figures": figures, "ratios": {}}))


if __name__ == "__main__":
    main()
