"""`serve` with a model whose batches wait for a line on standard input; tells on standard output what happens. The argument is the drain time-out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tests.serving.parts import HashModel

from stepward.core import StepScores, Trajectory
from stepward.serving.server import serve
from stepward.serving.settings import ServeSettings


def say(text: str) -> None:
    print(text, flush=True)


class Gated(HashModel):
    def _run(self, requests: Sequence[Trajectory]) -> list[StepScores]:
        say(f"batch of {len(requests)}")
        sys.stdin.readline()
        return super()._run(requests)


given_up = serve(Gated, ServeSettings(drain_timeout_s=float(sys.argv[1]) if len(sys.argv) > 1 else 30.0), port=0, announce=say)
say(f"returned {given_up}")
if given_up:
    os._exit(0)  # as the command line does: the batch that was given up still waits
