"""The `stepward` command: verbs and how errors are shown. Each verb is a file of this room."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from stepward import __version__
from stepward.cli.interrupt import Verbs, exit_code
from stepward.cli.output import remarks
from stepward.core.errors import StepwardError

_HELP = """Process rewards for LLM reasoning and agents: label, train, score, search, evaluate and look at every step.

The whole job on embedded defaults: stepward demo. The same by hand:

  stepward sample --policy tiny --environment grade-school:easy --split train --limit 200 --n 4 --out samples.jsonl

  stepward label --policy tiny --environment grade-school:easy --data samples.jsonl --out labels.jsonl

  stepward train --data labels.jsonl --backbone tiny --out prm

  stepward search --policy tiny --model prm:prm --strategy weighted --limit 100

  stepward eval processbench --model prm:prm --data FILE

Every verb takes --json. With --out or --journal, everything that was paid for is kept, so a killed run goes on where it was.
"""

app = typer.Typer(
    name="stepward", cls=Verbs, help=_HELP, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False, add_completion=False
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"stepward {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False) -> None:
    del version


def _register() -> None:
    from stepward.cli.calibrate import calibrate
    from stepward.cli.check import check
    from stepward.cli.compare import compare
    from stepward.cli.curate import curate
    from stepward.cli.demo import demo
    from stepward.cli.doctor import doctor
    from stepward.cli.evaluate import evaluate
    from stepward.cli.label import label
    from stepward.cli.method_help import command_of
    from stepward.cli.parity import parity
    from stepward.cli.report import report
    from stepward.cli.sample import sample
    from stepward.cli.score import score
    from stepward.cli.search import search
    from stepward.cli.serve import serve
    from stepward.cli.train import train

    verbs: list[Callable[..., None]] = [demo, check, sample, label, curate, train, score, search, compare]
    for verb in verbs:
        app.command(cls=command_of(verb))(verb)
    app.add_typer(evaluate, name="eval")
    app.command()(calibrate)
    app.command()(parity)
    app.command()(serve)
    app.command()(report)
    app.command()(doctor)


_register()


def main() -> None:
    """Run the command line. Mistakes that stepward can explain end with their message and exit code 2, without a traceback."""
    try:
        app()
    except StepwardError as error:
        remarks.print(f"stepward: {error}", style="red", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:  # before a verb had begun
        remarks.print("stepward: interrupted")
        sys.exit(exit_code())
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
